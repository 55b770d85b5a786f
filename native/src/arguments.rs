//! Command lines of the form `--name value` and `--flag`, nothing more.

use crate::failure::Failure;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::str::FromStr;

/// The options of one program, each given at most once.
pub struct Options {
    values: BTreeMap<String, OsString>,
    flags: Vec<String>,
}

impl Options {
    /// Reads `arguments`; `valued` take a value, `flags` do not, anything else is refused.
    pub fn parse(
        mut arguments: impl Iterator<Item = OsString>,
        valued: &[&str],
        flags: &[&str],
    ) -> Result<Self, Failure> {
        let mut options = Self { values: BTreeMap::new(), flags: Vec::new() };
        while let Some(argument) = arguments.next() {
            let name = argument.to_string_lossy().into_owned();
            if flags.contains(&name.as_str()) {
                options.flags.push(name);
            } else if valued.contains(&name.as_str()) {
                let value = arguments.next().ok_or_else(|| Failure::usage(format!("{name} needs a value")))?;
                options.values.insert(name, value);
            } else {
                let known = [valued, flags].concat().join(", ");
                return Err(Failure::usage(format!("unknown option {name}; this program knows: {known}")));
            }
        }
        Ok(options)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag == name)
    }

    pub fn text(&self, name: &str) -> Result<&OsString, Failure> {
        self.values.get(name).ok_or_else(|| Failure::usage(format!("{name} is missing")))
    }

    /// The parsed value of `name`, `None` when it was not given.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.values.get(name).map(|value| parse(name, value)).transpose()
    }
}

fn parse<T: FromStr>(name: &str, value: &OsString) -> Result<T, Failure> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| Failure::usage(format!("{name}: {text:?} is not valid here")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options, Failure> {
        Options::parse(words.iter().map(OsString::from), &["--dir", "--number"], &["--udp"])
    }

    #[test]
    fn reads_values_and_flags() {
        let read = options(&["--udp", "--number", "7", "--dir", "/tmp"]).unwrap();
        assert!(read.flag("--udp"));
        assert_eq!(read.parsed::<i32>("--number").unwrap(), Some(7));
        assert_eq!(read.text("--dir").unwrap(), "/tmp");
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let cases: [&[&str]; 2] = [&["--color"], &["--dir"]];
        for words in cases {
            assert_eq!(options(words).err().unwrap().status, crate::failure::USAGE);
        }
        assert!(options(&["--number", "x"]).unwrap().parsed::<i32>("--number").is_err());
    }
}
