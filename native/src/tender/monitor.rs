//! The hypervisor's monitor (QMP): one JSON object a line, both ways; a command is answered before the next is given.

use crate::failure::{Context, Failure};
use crate::seqpacket;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const LONGEST_LINE: u64 = 1 << 16;
/// As long as the state of a small machine takes to write or read on a slow disk, and then some.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody else waits for the disk meanwhile [byte/s].
const RATE: u64 = 1 << 40;
/// The hypervisor's own name for a descriptor it was given.
const STATE: &str = "state";

pub struct Monitor {
    lines: BufReader<UnixStream>,
    is_greeted: bool,
    /// When what is being done must be done.
    until: Instant,
}

impl Monitor {
    /// Takes our end of the monitor's socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { lines: BufReader::new(UnixStream::from(socket)), is_greeted: false, until: Instant::now() }
    }

    /// Has the machine stop, and all of its state written.
    pub fn save(&mut self, file: BorrowedFd<'_>) -> Result<(), Failure> {
        self.begin()?;
        self.execute("stop", json!({}))?;
        self.execute("migrate-set-parameters", json!({"max-bandwidth": RATE}))?;
        self.give(file)?;
        self.execute("migrate", json!({"uri": format!("fd:{STATE}")}))?;
        self.until_moved()
    }

    /// Has a machine that waits for it take the state on, and go on.
    pub fn load(&mut self, file: BorrowedFd<'_>) -> Result<(), Failure> {
        self.begin()?;
        self.give(file)?;
        self.execute("migrate-incoming", json!({"uri": format!("fd:{STATE}")}))?;
        self.until_moved()?;
        self.execute("cont", json!({}))
    }

    /// Has time for one thing, and greets a hypervisor that was not spoken to so far.
    fn begin(&mut self) -> Result<(), Failure> {
        self.until = Instant::now() + PATIENCE;
        if self.is_greeted {
            return Ok(());
        }
        self.lines.get_ref().set_nonblocking(false).context("the monitor's socket")?;
        self.read()?;
        self.execute("qmp_capabilities", json!({}))?;
        let events = json!({"capabilities": [{"capability": "events", "state": true}]});
        self.execute("migrate-set-capabilities", events)?;
        self.is_greeted = true;
        Ok(())
    }

    fn give(&mut self, file: BorrowedFd<'_>) -> Result<(), Failure> {
        let command = json!({"execute": "getfd", "arguments": {"fdname": STATE}}).to_string();
        seqpacket::send(self.lines.get_ref().as_fd(), command.as_bytes(), &[file]).context("the monitor")?;
        self.until_answered("getfd")
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<(), Failure> {
        let line = json!({"execute": command, "arguments": arguments}).to_string();
        seqpacket::send(self.lines.get_ref().as_fd(), line.as_bytes(), &[]).context("the monitor")?;
        self.until_answered(command)
    }

    fn until_answered(&mut self, command: &str) -> Result<(), Failure> {
        loop {
            let said = self.read()?;
            if let Some(error) = said.get("error") {
                return Err(Failure::system(format!("the hypervisor refuses {command}"), &error["desc"]));
            }
            if said.get("return").is_some() {
                return Ok(());
            }
            if has_moved(&said)? {
                return Err(Failure::system(command, "its state was moved before it was asked to"));
            }
        }
    }

    fn until_moved(&mut self) -> Result<(), Failure> {
        while !has_moved(&self.read()?)? {}
        Ok(())
    }

    fn read(&mut self) -> Result<Value, Failure> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::system("the hypervisor", "does not answer"));
        }
        self.lines.get_ref().set_read_timeout(Some(left)).context("the monitor's socket")?;
        let mut line = Vec::new();
        (&mut self.lines).take(LONGEST_LINE).read_until(b'\n', &mut line).context("the monitor")?;
        if line.is_empty() {
            return Err(Failure::system("the hypervisor", "has ended"));
        }
        serde_json::from_slice(&line).context("the monitor")
    }
}

/// Whether an event says that all of the state has been written or read.
fn has_moved(said: &Value) -> Result<bool, Failure> {
    match (said["event"].as_str(), said["data"]["status"].as_str()) {
        (Some("MIGRATION"), Some("completed")) => Ok(true),
        (Some("MIGRATION"), Some("failed")) => Err(Failure::system("the hypervisor", "cannot move its state")),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::thread;

    /// A hypervisor that says these lines, one for each line that it hears, after a greeting.
    fn playing(lines: &'static [&'static str]) -> (OwnedFd, thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let script = thread::spawn(move || {
            let mut heard = vec![];
            let mut stream = theirs.try_clone().unwrap();
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
            let mut buffer = [0; 4096];
            for line in lines {
                let count = stream.read(&mut buffer).unwrap();
                heard.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
                stream.write_all(line.as_bytes()).unwrap();
            }
            heard
        });
        (ours.into(), script)
    }

    const OPENED: [&str; 2] = ["{\"return\": {}}\n", "{\"event\": \"OTHER\"}\n{\"return\": {}}\n"];

    #[test]
    fn a_state_is_written_once_the_machine_has_stopped() {
        let done = "{\"return\": {}}\n{\"event\": \"MIGRATION\", \"data\": {\"status\": \"active\"}}\n\
                    {\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\n";
        let lines: &[&str] = Box::leak(Box::new([OPENED[0], OPENED[1], OPENED[0], OPENED[0], OPENED[0], done]));
        let (socket, script) = playing(lines);
        let file = std::fs::File::open("/dev/null").unwrap();
        Monitor::new(socket).save(file.as_fd()).unwrap();
        let heard = script.join().unwrap();
        let order =
            ["qmp_capabilities", "migrate-set-capabilities", "stop", "migrate-set-parameters", "getfd", "migrate"];
        for (line, word) in heard.iter().zip(order) {
            assert!(line.contains(&format!("\"execute\":\"{word}\"")), "{line}");
        }
    }

    #[test]
    fn what_goes_wrong_is_said() {
        let refused = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\n";
        let failed = "{\"return\": {}}\n{\"event\": \"MIGRATION\", \"data\": {\"status\": \"failed\"}}\n";
        let cases: [(&'static [&'static str], &[&str]); 4] = [
            (Box::leak(Box::new([OPENED[0], OPENED[1], refused])), &["no such thing"]),
            (Box::leak(Box::new([OPENED[0], OPENED[1], OPENED[0], failed])), &["cannot move"]),
            (Box::leak(Box::new([OPENED[0], OPENED[1], "nonsense\n"])), &["expected"]),
            (Box::leak(Box::new([OPENED[0], OPENED[1]])), &["has ended", "Broken pipe"]),
        ];
        for (lines, words) in cases {
            let (socket, script) = playing(lines);
            let file = std::fs::File::open("/dev/null").unwrap();
            let why = Monitor::new(socket).load(file.as_fd()).unwrap_err();
            assert!(words.iter().any(|word| why.sentence.contains(word)), "{}", why.sentence);
            drop(script);
        }
    }
}
