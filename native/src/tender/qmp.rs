//! QEMU's machine protocol: one JSON object a line, on a socket that QEMU was born with.

use crate::seqpacket;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use serde_json::{Value, json};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const LONGEST_LINE: usize = 64 * 1024;
/// The name under which QEMU keeps the descriptor of a snapshot.
const NAME: &str = "snapshot";
/// No bound on how fast it is written or read [byte/s]: nothing else runs in the guest meanwhile.
const UNBOUNDED: u64 = 1 << 40;

pub struct Qmp {
    socket: OwnedFd,
    line: Vec<u8>,
    deadline: Instant,
    is_ready: bool,
    /// What became of the migration.
    migrated: Option<bool>,
}

impl Qmp {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, line: Vec::new(), deadline: Instant::now(), is_ready: false, migrated: None }
    }

    /// Writes the guest, which stands still from then on, into `file` where that stands now.
    pub fn save(&mut self, file: BorrowedFd<'_>, within: Duration) -> Result<(), String> {
        self.begin(within)?;
        self.ask("stop", json!({}))?;
        self.migrate("migrate", json!({ "max-bandwidth": UNBOUNDED }), file)?;
        self.ask("quit", json!({}))
    }

    /// Has a hypervisor that was started with `-incoming defer` take the guest up from `file`, and go on.
    pub fn load(&mut self, file: BorrowedFd<'_>, within: Duration) -> Result<(), String> {
        self.begin(within)?;
        // The host knows where the guest is, and the first frame is to be the guest's own.
        self.migrate("migrate-incoming", json!({ "announce-rounds": 0 }), file)?;
        self.ask("cont", json!({}))
    }

    fn begin(&mut self, within: Duration) -> Result<(), String> {
        self.deadline = Instant::now() + within;
        if self.is_ready {
            return Ok(());
        }
        self.next()?.get("QMP").ok_or("QEMU greets in another way than is known")?;
        self.ask("qmp_capabilities", json!({}))?;
        self.ask("migrate-set-capabilities", json!({ "capabilities": [{ "capability": "events", "state": true }] }))?;
        self.is_ready = true;
        Ok(())
    }

    fn migrate(&mut self, how: &str, parameters: Value, file: BorrowedFd<'_>) -> Result<(), String> {
        self.migrated = None;
        self.ask("migrate-set-parameters", parameters)?;
        self.ask_with("getfd", json!({ "fdname": NAME }), &[file])?;
        self.ask(how, json!({ "uri": format!("fd:{NAME}") }))?;
        while self.migrated.is_none() {
            self.next()?;
        }
        if self.migrated == Some(true) { Ok(()) } else { Err("QEMU gave up, as its log says".into()) }
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Result<(), String> {
        self.ask_with(command, arguments, &[])
    }

    fn ask_with(&mut self, command: &str, arguments: Value, files: &[BorrowedFd<'_>]) -> Result<(), String> {
        let words = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        seqpacket::send(self.socket.as_fd(), words.as_bytes(), files).map_err(|why| format!("{command}: {why}"))?;
        loop {
            let answer = self.next()?;
            if let Some(error) = answer.get("error") {
                return Err(format!(
                    "QEMU refuses {command}: {}",
                    error["desc"].as_str().unwrap_or("it does not say why")
                ));
            }
            if answer.get("return").is_some() {
                return Ok(());
            }
        }
    }

    /// The next thing that QEMU says.
    fn next(&mut self) -> Result<Value, String> {
        let line = self.next_line()?;
        let said: Value = serde_json::from_slice(&line).map_err(|_| "QEMU says what is no JSON")?;
        if said["event"] == "MIGRATION" {
            self.migrated = match said["data"]["status"].as_str() {
                Some("completed") => Some(true),
                Some("failed") => Some(false),
                _ => self.migrated,
            };
        }
        Ok(said)
    }

    fn next_line(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let rest = self.line.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.line, rest));
            }
            if self.line.len() > LONGEST_LINE {
                return Err("QEMU says more in one line than is known".into());
            }
            self.read_some()?;
        }
    }

    fn read_some(&mut self) -> Result<(), String> {
        let mut bytes = [0; 4096];
        match read(&self.socket, &mut bytes) {
            Ok(0) | Err(Errno::ECONNRESET) => Err("QEMU ended".into()),
            Ok(count) => {
                self.line.extend(&bytes[..count]);
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => self.wait(),
            Err(why) => Err(why.to_string()),
        }
    }

    fn wait(&self) -> Result<(), String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => Err("QEMU does not answer in time".into()),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(why) => Err(why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;

    const WITHIN: Duration = Duration::from_secs(5);

    fn pair() -> (Qmp, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Qmp::new(ours.into()), theirs)
    }

    /// Plays QEMU: greets, then gives these answers, a command each.
    fn play(theirs: UnixStream, answers: &'static [&'static str]) -> thread::JoinHandle<Vec<String>> {
        thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            writer.write_all(b"{\"QMP\": {}}\r\n").unwrap();
            let mut asked = vec![];
            let mut lines = BufReader::new(theirs).lines();
            for answer in answers {
                let Some(Ok(line)) = lines.next() else { break };
                let command: Value = serde_json::from_str(&line).unwrap();
                asked.push(command["execute"].as_str().unwrap().to_owned());
                // In two parts, as a stream may cut it anywhere.
                let (first, second) = answer.split_at(answer.len() / 2);
                writer.write_all(first.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(1));
                writer.write_all(second.as_bytes()).unwrap();
            }
            asked
        })
    }

    const FINE: &str = "{\"return\": {}}\r\n";
    const DONE: &str = "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"active\"}}\r\n{\"return\": {}}\r\n\
                        {\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}\r\n";

    #[test]
    fn saves_with_events_before_and_behind_answers() {
        let (mut qmp, theirs) = pair();
        let qemu = play(theirs, &[FINE, FINE, FINE, FINE, FINE, DONE, FINE]);
        qmp.save(std::io::stdin().as_fd(), WITHIN).unwrap();
        let asked = qemu.join().unwrap();
        let known =
            ["qmp_capabilities", "migrate-set-capabilities", "stop", "migrate-set-parameters", "getfd", "migrate"];
        assert_eq!(asked, [&known[..], &["quit"]].concat());
    }

    #[test]
    fn loads_and_goes_on() {
        let (mut qmp, theirs) = pair();
        let qemu = play(theirs, &[FINE, FINE, FINE, FINE, DONE, FINE]);
        qmp.load(std::io::stdin().as_fd(), WITHIN).unwrap();
        assert_eq!(qemu.join().unwrap()[4..], ["migrate-incoming", "cont"]);
    }

    #[test]
    fn one_that_was_loaded_is_saved_again() {
        let (mut qmp, theirs) = pair();
        let qemu = play(theirs, &[FINE, FINE, FINE, FINE, DONE, FINE, FINE, FINE, FINE, DONE, FINE]);
        qmp.load(std::io::stdin().as_fd(), WITHIN).unwrap();
        qmp.save(std::io::stdin().as_fd(), WITHIN).unwrap();
        assert_eq!(qemu.join().unwrap()[6..], ["stop", "migrate-set-parameters", "getfd", "migrate", "quit"]);
    }

    #[test]
    fn says_what_went_wrong() {
        const FAILED: &str = "{\"return\": {}}\r\n{\"event\":\"MIGRATION\",\"data\":{\"status\":\"failed\"}}\r\n";
        const REFUSED: &str = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n";
        let cases: [(&'static [&'static str], &str); 4] = [
            (&[FINE, FINE, FINE, FINE, FAILED], "QEMU gave up, as its log says"),
            (&[FINE, FINE, FINE, REFUSED], "QEMU refuses getfd: no such thing"),
            (&[FINE], "QEMU ended"),
            (&[FINE, "so what\n"], "QEMU says what is no JSON"),
        ];
        for (answers, why) in cases {
            let (mut qmp, theirs) = pair();
            let qemu = play(theirs, answers);
            let told = qmp.load(std::io::stdin().as_fd(), WITHIN).unwrap_err();
            // Who is gone may be noticed at the next question already.
            assert!(told == why || why == "QEMU ended" && told.contains("pipe"), "{told}");
            qemu.join().unwrap();
        }
    }

    #[test]
    fn silence_and_endless_lines_are_bounded() {
        let (mut qmp, mut theirs) = pair();
        assert_eq!(qmp.load(std::io::stdin().as_fd(), Duration::ZERO).unwrap_err(), "QEMU does not answer in time");
        let flood = thread::spawn(move || while theirs.write_all(&[b' '; 4096]).is_ok() {});
        assert_eq!(qmp.load(std::io::stdin().as_fd(), WITHIN).unwrap_err(), "QEMU says more in one line than is known");
        assert!(qmp.line.len() <= LONGEST_LINE + 4096);
        drop(qmp);
        flood.join().unwrap();
    }
}
