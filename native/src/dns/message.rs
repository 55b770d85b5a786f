//! DNS messages: what we read of a query, and what we write of an answer (RFC 1035, 2782, 3596, 6891, 8914).

use std::net::{Ipv4Addr, Ipv6Addr};

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const SOA: u16 = 6;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
const OPT: u16 = 41;
pub const ANY: u16 = 255;
pub const INTERNET: u16 = 1;

pub const HEADER_BYTES: usize = 12;
/// What a client takes over UDP that says nothing else; and what we send at most (the DNS flag day 2020).
const PLAIN_BYTES: u16 = 512;
const LARGEST_BYTES: u16 = 1232;
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 255;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, HEADER_BYTES as u8];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
}

/// What somebody asks.
#[derive(Clone, Debug)]
pub struct Query {
    pub id: u16,
    pub flags: u16,
    /// In lower case, labels joined by dots, without the last one.
    pub name: String,
    pub kind: u16,
    pub class: u16,
    /// The question as it was asked.
    pub question: Vec<u8>,
    /// How large an answer may be [byte], if the client spoke EDNS.
    pub edns_bytes: Option<u16>,
}

/// Why a message is no query of ours.
#[derive(Debug)]
pub enum Malformed {
    /// Not even worth an answer.
    Ignore,
    /// Worth an answer without a question.
    Answer(u16, u16, Code),
}

impl Query {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        if bytes.len() < HEADER_BYTES || word(2) & RESPONSE != 0 {
            return Err(Malformed::Ignore);
        }
        let (id, flags) = (word(0), word(2));
        if flags & OPCODE != 0 {
            return Err(Malformed::Answer(id, flags, Code::NotImp));
        }
        let bad = || Malformed::Answer(id, flags, Code::FormErr);
        if word(4) != 1 || word(6) != 0 {
            return Err(bad());
        }
        let (name, end) = read_name(bytes, HEADER_BYTES).ok_or_else(bad)?;
        let rest = bytes.get(end..end + 4).ok_or_else(bad)?;
        let (kind, class) = (u16::from_be_bytes([rest[0], rest[1]]), u16::from_be_bytes([rest[2], rest[3]]));
        let question = bytes[HEADER_BYTES..end + 4].to_vec();
        let edns_bytes = read_edns(&bytes[end + 4..], word(8).saturating_add(word(10)));
        Ok(Self { id, flags, name, kind, class, question, edns_bytes })
    }

    /// How large an answer over UDP may be [byte].
    pub fn limit(&self) -> usize {
        usize::from(self.edns_bytes.unwrap_or(PLAIN_BYTES).clamp(PLAIN_BYTES, LARGEST_BYTES))
    }
}

/// A name without compression, as a question has it: the name, and where it ends.
fn read_name(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let start = at;
    let mut name = String::new();
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        let label = bytes.get(at..at + length).filter(|_| length <= LONGEST_LABEL)?;
        at += length;
        if at - start >= LONGEST_NAME {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        // A dot or a byte that is no ASCII is in no name of ours; it must not look like one.
        name.extend(label.iter().map(|byte| match byte {
            b'.' | 0x80.. => '\u{fffd}',
            byte => char::from(byte.to_ascii_lowercase()),
        }));
    }
}

/// The size of an OPT record, which has the root's name; queries have nothing else behind the question.
fn read_edns(bytes: &[u8], count: u16) -> Option<u16> {
    let is_opt = count >= 1 && bytes.len() >= 11 && bytes[0] == 0 && bytes[1..3] == OPT.to_be_bytes();
    is_opt.then(|| u16::from_be_bytes([bytes[3], bytes[4]]))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Srv { priority: u16, port: u16, target: String },
    Ns(String),
    Soa { zone: String, serial: u32, negative_ttl_s: u32 },
}

/// A resource record; `owner` is `None` where that is the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub owner: Option<String>,
    pub ttl_s: u32,
    pub data: Data,
}

#[derive(Default)]
pub struct Answer {
    pub code: Option<Code>,
    pub is_authoritative: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    /// Why it failed, for people (RFC 8914).
    pub reason: String,
}

impl Answer {
    pub fn of(code: Code) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    /// The bytes that answer `query`, cut to its question where they are more than `limit`.
    pub fn write(&self, query: &Query, limit: usize, recurses: bool) -> Vec<u8> {
        let whole = self.write_parts(query, recurses, false);
        if whole.len() <= limit { whole } else { self.write_parts(query, recurses, true) }
    }

    fn write_parts(&self, query: &Query, recurses: bool, is_cut: bool) -> Vec<u8> {
        let mut flags = RESPONSE | query.flags & RECURSION_DESIRED | self.code.unwrap_or(Code::NoError) as u16;
        flags |= if self.is_authoritative { AUTHORITATIVE } else { 0 };
        flags |= if recurses { RECURSION_AVAILABLE } else { 0 };
        flags |= if is_cut { TRUNCATED } else { 0 };
        let none = vec![];
        let sections = [&self.answers, &self.authority, &self.additional].map(|part| if is_cut { &none } else { part });
        let edns = u16::from(query.edns_bytes.is_some());
        let mut out = Vec::with_capacity(512);
        let counts = [1, sections[0].len() as u16, sections[1].len() as u16, sections[2].len() as u16 + edns];
        for word in [query.id, flags].into_iter().chain(counts) {
            out.extend(word.to_be_bytes());
        }
        out.extend(&query.question);
        sections.into_iter().flatten().for_each(|record| write_record(&mut out, record));
        if edns == 1 {
            write_opt(&mut out, if is_cut { "" } else { &self.reason });
        }
        out
    }
}

/// An answer to something whose question could not be read.
pub fn bare(id: u16, flags: u16, code: Code) -> Vec<u8> {
    let flags = RESPONSE | flags & (OPCODE | RECURSION_DESIRED) | code as u16;
    [id, flags, 0, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

fn write_record(out: &mut Vec<u8>, record: &Record) {
    match &record.owner {
        None => out.extend(POINTER_TO_QUESTION),
        Some(name) => write_name(out, name),
    }
    let (kind, data) = write_data(&record.data);
    out.extend(kind.to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    out.extend(record.ttl_s.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
}

fn write_data(data: &Data) -> (u16, Vec<u8>) {
    let mut out = vec![];
    let kind = match data {
        Data::A(address) => {
            out.extend(address.octets());
            A
        }
        Data::Aaaa(address) => {
            out.extend(address.octets());
            AAAA
        }
        Data::Srv { priority, port, target } => {
            [*priority, 0, *port].into_iter().for_each(|word| out.extend(word.to_be_bytes()));
            write_name(&mut out, target);
            SRV
        }
        Data::Ns(name) => {
            write_name(&mut out, name);
            NS
        }
        Data::Soa { zone, serial, negative_ttl_s } => {
            write_name(&mut out, &format!("ns.{zone}"));
            write_name(&mut out, &format!("hostmaster.{zone}"));
            // Serial, refresh, retry, expire, and how long "no such name" may be kept.
            for number in [*serial, 3600, 600, 86400, *negative_ttl_s] {
                out.extend(number.to_be_bytes());
            }
            SOA
        }
    };
    (kind, out)
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(LONGEST_LABEL)];
        out.push(label.len() as u8);
        out.extend(label);
    }
    out.push(0);
}

/// Our own size, and why something failed as "other error".
fn write_opt(out: &mut Vec<u8>, reason: &str) {
    const EXTENDED_ERROR: u16 = 15;
    const OTHER: u16 = 0;
    let words: Vec<u8> = reason.bytes().take(200).collect();
    let option_bytes = if words.is_empty() { 0 } else { 6 + words.len() as u16 };
    out.push(0);
    for word in [OPT, LARGEST_BYTES, 0, 0, option_bytes] {
        out.extend(word.to_be_bytes());
    }
    if option_bytes > 0 {
        for word in [EXTENDED_ERROR, option_bytes - 4, OTHER] {
            out.extend(word.to_be_bytes());
        }
        out.extend(words);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A query as a client sends it.
    pub fn asked(name: &str, kind: u16, edns_bytes: Option<u16>) -> Vec<u8> {
        let mut bytes: Vec<u8> = [7, RECURSION_DESIRED, 1, 0, 0, u16::from(edns_bytes.is_some())]
            .into_iter()
            .flat_map(u16::to_be_bytes)
            .collect();
        write_name(&mut bytes, name);
        bytes.extend([kind, INTERNET].into_iter().flat_map(u16::to_be_bytes));
        if let Some(size) = edns_bytes {
            bytes.push(0);
            bytes.extend([OPT, size, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes));
        }
        bytes
    }

    #[test]
    fn reads_what_is_asked_in_whatever_case() {
        let query = Query::read(&asked("Web.FOG.internal", AAAA, Some(4096))).unwrap();
        assert_eq!((query.name.as_str(), query.kind, query.edns_bytes), ("web.fog.internal", AAAA, Some(4096)));
        assert_eq!(query.limit(), 1232);
        assert_eq!(Query::read(&asked("web", A, None)).unwrap().limit(), 512);
    }

    #[test]
    fn answers_what_is_no_query_shortly_or_not_at_all() {
        assert!(matches!(Query::read(&[0; 5]), Err(Malformed::Ignore)));
        let mut response = asked("web", A, None);
        response[2] |= 0x80;
        assert!(matches!(Query::read(&response), Err(Malformed::Ignore)));
        let mut update = asked("web", A, None);
        update[2] |= 0x28;
        assert!(matches!(Query::read(&update), Err(Malformed::Answer(7, _, Code::NotImp))));
        let mut two = asked("web", A, None);
        two[5] = 2;
        assert!(matches!(Query::read(&two), Err(Malformed::Answer(7, _, Code::FormErr))));
        assert_eq!(bare(7, RECURSION_DESIRED, Code::FormErr)[..4], [0, 7, 0x81, 1]);
    }

    #[test]
    fn a_dot_inside_a_label_is_no_dot() {
        let mut bytes = asked("aXb", A, None);
        bytes[HEADER_BYTES + 2] = b'.';
        assert!(!Query::read(&bytes).unwrap().name.contains('.'));
    }

    #[test]
    fn writes_an_address_behind_the_question() {
        let query = Query::read(&asked("web.t", A, None)).unwrap();
        let record = Record { owner: None, ttl_s: 5, data: Data::A(Ipv4Addr::new(10, 0, 16, 2)) };
        let answer = Answer { is_authoritative: true, answers: vec![record], ..Answer::default() };
        let bytes = answer.write(&query, 512, false);
        assert_eq!(bytes[..12], [0, 7, 0x85, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(bytes[bytes.len() - 16..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 16, 2]);
    }

    #[test]
    fn cuts_what_is_too_long() {
        let query = Query::read(&asked("web.t", SRV, Some(512))).unwrap();
        let one = |priority| Data::Srv { priority, port: 80, target: "a-rather-long-name-of-an-instance.t".into() };
        let answers = (0..40).map(|priority| Record { owner: None, ttl_s: 5, data: one(priority) }).collect();
        let answer = Answer { answers, ..Answer::default() };
        let cut = answer.write(&query, query.limit(), false);
        assert!(cut.len() <= 512 && cut[2] & 2 != 0 && cut[7] == 0);
        assert!(answer.write(&query, 65_535, false).len() > 512);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 1_u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        for round in 0..50_000 {
            let mut bytes = asked("web.fog.internal", A, Some(1232));
            if round % 2 == 0 {
                bytes = (0..random() % 60).map(|_| random() as u8).collect();
            }
            for _ in 0..random() % 4 {
                if !bytes.is_empty() {
                    let at = random() % bytes.len();
                    bytes[at] = random() as u8;
                }
            }
            bytes.truncate(random() % (bytes.len() + 1));
            if let Ok(query) = Query::read(&bytes) {
                let answer = Answer { reason: query.name.clone(), ..Answer::of(Code::ServFail) };
                assert!(!answer.write(&query, query.limit(), true).is_empty());
            }
        }
    }
}
