//! The guest's configuration: one line of `key=value` words, values percent-encoded.
//!
//! The same bytes are written by Wisp's `codec.guest_config`; `tests/golden/guest_config.json` binds the two.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr};

/// Why a configuration cannot be used; the guest ends with these words.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub key: String,
    pub reason: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.key, self.reason)
    }
}

/// Keys and values; of equal keys the last one holds.
#[derive(Debug, Default)]
pub struct Config {
    pairs: Vec<(String, String)>,
}

impl Config {
    /// Reads lines in order, so that later ones override earlier ones. Words without `=` are not ours.
    pub fn parse(lines: &[&str]) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for word in lines.iter().flat_map(|line| line.split_ascii_whitespace()) {
            if let Some((key, value)) = word.split_once('=') {
                let value = decoded(value).ok_or(ConfigError { key: key.to_string(), reason: "is no encoded UTF-8" })?;
                config.pairs.push((key.to_string(), value));
            }
        }
        Ok(config)
    }

    /// The value of `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Every value whose key starts with `prefix`, with the rest of the key.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// The value of `key` read as `T`, or `default` where there is none.
    pub fn parsed<T: FromStr>(&self, key: &str, default: T) -> Result<T, ConfigError> {
        self.get(key).map_or(Ok(default), |text| {
            text.parse().map_err(|_| ConfigError { key: key.to_string(), reason: "has a wrong form" })
        })
    }

    /// The value of `key` as a time: a number with `ms`, `s`, `m` or `h` behind it.
    pub fn duration(&self, key: &str, default: Duration) -> Result<Duration, ConfigError> {
        self.get(key)
            .map_or(Ok(default), |text| duration(text).ok_or(ConfigError { key: key.to_string(), reason: "is no time, as 10s" }))
    }
}

/// For how long a guest was put away that its tender has stay [ms]; 0 where it does not say.
#[cfg(any(feature = "microvm", test))]
pub fn slept_ms(words: &str) -> u64 {
    Config::parse(&[words]).and_then(|words| words.parsed("slept_ms", 0)).unwrap_or(0)
}

/// How the guest sets up its interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Addressing {
    pub mac: Option<EthernetAddress>,
    pub ipv4: Ipv4Cidr,
    pub gateway: Option<Ipv4Address>,
    /// Given where the gateway knows ours too, so that nobody needs to ask.
    pub gateway_mac: Option<EthernetAddress>,
    pub ipv6: Option<Ipv6Cidr>,
    pub gateway_ipv6: Option<Ipv6Address>,
}

impl Addressing {
    pub fn read(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self {
            mac: optional(config, "mac")?,
            ipv4: optional(config, "ip")?.ok_or(ConfigError { key: "ip".to_string(), reason: "is missing" })?,
            gateway: optional(config, "gw")?,
            gateway_mac: optional(config, "gwmac")?,
            ipv6: optional(config, "ip6")?,
            gateway_ipv6: optional(config, "gw6")?,
        })
    }
}

/// The value of `key` read as `T`; an empty one counts as none.
fn optional<T: FromStr>(config: &Config, key: &str) -> Result<Option<T>, ConfigError> {
    match config.get(key) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| ConfigError { key: key.to_string(), reason: "is no address" }),
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else { return None };
            bytes.push(hex(*high)? << 4 | hex(*low)?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..digits].parse().ok()?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(count.checked_mul(unit_ms)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_words_override_earlier_ones() {
        let config = Config::parse(&["port=80 name=a", "console=ttyS0 quiet port=81"]).unwrap();
        assert_eq!(config.get("port"), Some("81"));
        assert_eq!(config.get("name"), Some("a"));
        assert_eq!(config.get("quiet"), None);
    }

    #[test]
    fn a_guest_that_stays_is_told_how_long_it_slept() {
        let words = ["stay slept_ms=90000", "stay slept_ms=0", "stay", "", "stay slept_ms=soon"];
        assert_eq!(words.map(slept_ms), [90_000, 0, 0, 0, 0]);
    }

    #[test]
    fn values_are_percent_decoded() {
        let config = Config::parse(&["motto=a%20b%C3%A9"]).unwrap();
        assert_eq!(config.get("motto"), Some("a bé"));
        assert!(Config::parse(&["x=%2"]).is_err());
        assert!(Config::parse(&["x=%zz"]).is_err());
        assert!(Config::parse(&["x=%ff"]).is_err());
    }

    #[test]
    fn addresses_are_read() {
        let config = Config::parse(&["ip=10.0.16.2/20 gw=10.0.16.1 mac=02:00:0a:00:10:02"]).unwrap();
        let read = Addressing::read(&config).unwrap();
        assert_eq!(read.ipv4, "10.0.16.2/20".parse().unwrap());
        assert_eq!(read.gateway, Some(Ipv4Address::new(10, 0, 16, 1)));
        assert!(read.mac.is_some());
        assert_eq!(read.ipv6, None);
        assert_eq!(Addressing::read(&Config::parse(&["gw=10.0.0.1"]).unwrap()).unwrap_err().reason, "is missing");
        assert!(Addressing::read(&Config::parse(&["ip=10.0.0"]).unwrap()).is_err());
    }

    #[test]
    fn times_have_units() {
        let config = Config::parse(&["a=250ms b=10s c=10 d=9999999999999999999s"]).unwrap();
        let default = Duration::from_secs(1);
        assert_eq!(config.duration("a", default).unwrap(), Duration::from_millis(250));
        assert_eq!(config.duration("b", default).unwrap(), Duration::from_secs(10));
        assert_eq!(config.duration("z", default).unwrap(), default);
        assert!(config.duration("c", default).is_err());
        assert!(config.duration("d", default).is_err());
    }

    #[test]
    fn no_text_makes_it_panic() {
        let mut seed = 7_u32;
        for length in 0..2_000 {
            let text: String = (0..length % 60)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ['a', '=', '%', '2', 'f', ' ', 'é', '/', '.', 's'][(seed >> 16) as usize % 10]
                })
                .collect();
            if let Ok(config) = Config::parse(&[&text]) {
                let _ = Addressing::read(&config);
                let _ = config.duration("a", Duration::ZERO);
            }
        }
    }
}
