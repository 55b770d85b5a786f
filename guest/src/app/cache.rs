//! A bounded store of answers (RFC 9111): what may be stored, how long it is fresh, and what goes first when room is
//! needed. Knows no network.
//!
//! Bodies lie in blocks of memory of their own, which nobody touches before it is needed. What is being read or fetched is
//! never evicted; so all bodies together stay within the budget, and all heads within a quarter of it.

use crate::app::http::header;
use crate::app::reply::{Framing, Head, kept, values};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::slice::ChunksExactMut;
use smoltcp::time::{Duration, Instant};

const BLOCK_BYTES: usize = 2048;
/// What an entry takes beside its key and headers, at most: itself, twice while the list of entries grows, and its parts'
/// places in the heap. Without it, very many very small answers would take more than the heap has.
const ENTRY_BYTES: usize = 512;
/// As much longer may the headers grow when the origin tells some anew.
const SPARE_BYTES: usize = 256;
/// After a failure a stale answer serves so long before the origin is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Longer than anybody keeps anything; keeps sums of times from overflowing.
const FOR_EVER_S: u64 = 1 << 31;

type Block = &'static mut [u8];

/// A body in blocks.
#[derive(Debug, Default)]
pub struct Contents {
    blocks: Vec<Block>,
    length: usize,
}

impl Contents {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What lies in one piece from `at` on, up to `end`; nothing at the end.
    pub fn piece(&self, at: usize, end: usize) -> &[u8] {
        let (index, offset) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
        let Some(block) = self.blocks.get(index) else { return &[] };
        let length = (end.min(self.length) - index * BLOCK_BYTES).min(BLOCK_BYTES);
        &block[offset.min(length)..length]
    }
}

/// How long an answer may be used without asking (RFC 9111, 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    asked_at: Instant,
    age_then: Duration,
    lifetime: Duration,
    /// Whether a stale one is to be told to nobody, even when the origin is gone.
    pub must_revalidate: bool,
}

impl Freshness {
    pub fn age(&self, now: Instant) -> Duration {
        self.age_then + (now - self.asked_at)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.lifetime
    }
}

/// What an answer to a question asked at `asked_at` allows; `None` when it may not be stored, at least not by us.
/// `ttl` is for those that do not say.
pub fn policy(head: &Head<'_>, ttl: Duration, asked_at: Instant) -> Option<Freshness> {
    let directives = || values(head.headers, "cache-control");
    let says = |word: &str| directives().any(|directive| is_named(directive, word));
    let is_storable = head.status == 200
        && head.framing != Framing::UntilClose
        && !says("no-store")
        && !says("private")
        && header(head.headers, "set-cookie").is_none()
        && !values(head.headers, "vary").any(|name| name == "*");
    is_storable.then(|| freshness(head.headers, ttl, asked_at))
}

/// How long what these headers stand for is fresh.
pub fn freshness(headers: &str, ttl: Duration, asked_at: Instant) -> Freshness {
    let directives = || values(headers, "cache-control");
    let says = |word: &str| directives().any(|directive| is_named(directive, word));
    let number = |word: &str| {
        directives()
            .find_map(|directive| Some(seconds(directive.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case(word))?.1)))
    };
    let lifetime = match (number("s-maxage").or_else(|| number("max-age")), header(headers, "expires")) {
        _ if says("no-cache") => Duration::ZERO,
        (Some(lifetime), _) => lifetime,
        (None, Some(expires)) => until(expires, header(headers, "date")),
        (None, None) => ttl,
    };
    Freshness {
        asked_at,
        age_then: header(headers, "age").map_or(Duration::ZERO, seconds),
        lifetime,
        must_revalidate: ["must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"].into_iter().any(says),
    }
}

fn is_named(directive: &str, word: &str) -> bool {
    directive.split_once('=').map_or(directive, |(name, _)| name).trim().eq_ignore_ascii_case(word)
}

/// Delta-seconds (RFC 9111, 1.2.2); what cannot be read is none.
fn seconds(text: &str) -> Duration {
    let digits = text.trim().trim_matches('"');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Duration::from_secs(if is_number { digits.parse().unwrap_or(FOR_EVER_S).min(FOR_EVER_S) } else { 0 })
}

/// From one date to a later one; none where either cannot be read.
fn until(expires: &str, date: Option<&str>) -> Duration {
    let span = date.and_then(date_s).zip(date_s(expires)).map_or(0, |(date, expires)| expires.saturating_sub(date));
    Duration::from_secs(span.min(FOR_EVER_S))
}

/// Seconds of a date such as `Sun, 06 Nov 1994 08:49:37 GMT` since some day (RFC 9110, 5.6.7).
fn date_s(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split(' ').skip(1);
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = MONTHS.find(words.next().filter(|name| name.len() == 3)?)? as u64 / 3;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1900..10_000).contains(year))?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok().filter(|number| *number < 61));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 306 + 5) / 10 + day;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// A stored answer of status 200.
#[derive(Debug)]
pub struct Entry {
    pub key: String,
    /// Lines for everybody behind us, each with its end.
    pub headers: String,
    /// The longest that the headers may become.
    room: usize,
    pub freshness: Freshness,
    pub contents: Rc<Contents>,
    pub retry_at: Instant,
    used: u64,
}

impl Entry {
    pub fn new(key: String, mut headers: String, freshness: Freshness, contents: Contents) -> Self {
        headers.shrink_to_fit();
        let room = headers.len() + SPARE_BYTES;
        Self { key, headers, room, freshness, contents: Rc::new(contents), retry_at: Instant::ZERO, used: 0 }
    }

    pub fn is_fresh(&self, now: Instant) -> bool {
        self.freshness.is_fresh(now)
    }

    /// Takes over what a 304 tells anew (RFC 9111, 4.3.4), where there is room for it.
    pub fn refresh(&mut self, headers: &str, freshness_headers: &str, ttl: Duration, asked_at: Instant) {
        let is_about_body = |name: &str| name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
        let fresh = kept(headers, &|name| !is_about_body(name));
        let mut merged = kept(&self.headers, &|name| header(&fresh, name).is_none());
        merged.push_str(&fresh);
        merged.shrink_to_fit();
        if merged.len() <= self.room {
            self.headers = merged;
        }
        let age = kept(freshness_headers, &|name| name.eq_ignore_ascii_case("age"));
        self.freshness = freshness(&alloc::format!("{age}{}", self.headers), ttl, asked_at);
    }

    /// Serves stale for a while, since the origin failed.
    pub fn postpone(&mut self, now: Instant) {
        self.retry_at = now + RETRY_AFTER;
    }

    fn head_bytes(&self) -> usize {
        ENTRY_BYTES + self.key.len() + self.room
    }
}

pub struct Cache {
    budget: usize,
    entries: Vec<Entry>,
    /// Bodies that are stored no more, but still read.
    leaving: Vec<Rc<Contents>>,
    spare: Vec<Block>,
    untouched: ChunksExactMut<'static, u8>,
    uses: u64,
}

impl Cache {
    /// Makes a store whose budget is the length of `memory`.
    pub fn new(memory: &'static mut [u8]) -> Self {
        let (budget, untouched) = (memory.len(), memory.chunks_exact_mut(BLOCK_BYTES));
        Self { budget, entries: Vec::new(), leaving: Vec::new(), spare: Vec::new(), untouched, uses: 0 }
    }

    /// The longest body that is stored.
    pub fn longest(&self) -> usize {
        self.budget / 2
    }

    /// Finds an answer and remembers that it was used.
    pub fn find(&mut self, key: &str) -> Option<&mut Entry> {
        self.uses += 1;
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        entry.used = self.uses;
        Some(entry)
    }

    /// Stores an answer in place of an earlier one.
    pub fn put(&mut self, mut entry: Entry) {
        self.remove(&entry.key);
        self.uses += 1;
        entry.used = self.uses;
        let wanted = entry.head_bytes();
        while self.entries.iter().map(Entry::head_bytes).sum::<usize>() + wanted > self.budget / 4 {
            if !self.evict() {
                return self.let_go(entry.contents);
            }
        }
        self.entries.push(entry);
    }

    pub fn remove(&mut self, key: &str) {
        if let Some(index) = self.entries.iter().position(|entry| entry.key == key) {
            let entry = self.entries.swap_remove(index);
            self.let_go(entry.contents);
        }
    }

    /// Appends to a body that is on its way in; `false` when there is no room, whatever is evicted.
    pub fn append(&mut self, contents: &mut Contents, mut bytes: &[u8]) -> bool {
        if contents.length + bytes.len() > self.longest() {
            return false;
        }
        while !bytes.is_empty() {
            let offset = contents.length % BLOCK_BYTES;
            if offset == 0 {
                let Some(block) = self.block() else { return false };
                contents.blocks.push(block);
            }
            let count = bytes.len().min(BLOCK_BYTES - offset);
            if let Some(block) = contents.blocks.last_mut() {
                block[offset..offset + count].copy_from_slice(&bytes[..count]);
            }
            contents.length += count;
            bytes = &bytes[count..];
        }
        true
    }

    /// Takes back a body that will not be stored.
    pub fn take_back(&mut self, contents: Contents) {
        self.spare.extend(contents.blocks);
    }

    fn block(&mut self) -> Option<Block> {
        if let Some(block) = self.spare.pop().or_else(|| self.untouched.next()) {
            return Some(block);
        }
        while self.spare.is_empty() {
            if let Some(index) = self.leaving.iter().position(|contents| Rc::strong_count(contents) == 1) {
                let contents = self.leaving.swap_remove(index);
                self.let_go(contents);
            } else if !self.evict() {
                return None;
            }
        }
        self.spare.pop()
    }

    /// Drops the answer that has not been used for longest, of those that nobody reads; `false` when there is none.
    fn evict(&mut self) -> bool {
        let unread = self.entries.iter().enumerate().filter(|(_, entry)| Rc::strong_count(&entry.contents) == 1);
        let Some((index, _)) = unread.min_by_key(|(_, entry)| entry.used) else { return false };
        let entry = self.entries.swap_remove(index);
        self.let_go(entry.contents);
        true
    }

    fn let_go(&mut self, contents: Rc<Contents>) {
        match Rc::try_unwrap(contents) {
            Ok(contents) => self.take_back(contents),
            Err(read) => self.leaving.push(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use core::mem;

    const TTL: Duration = Duration::from_secs(60);

    fn of_blocks(count: usize) -> Cache {
        Cache::new(alloc::vec![0; count * BLOCK_BYTES].leak())
    }

    fn at(seconds: i64) -> Instant {
        Instant::from_secs(seconds)
    }

    fn answer(headers: &str) -> Option<Freshness> {
        policy(&Head { status: 200, headers, framing: Framing::Length(1) }, TTL, at(100))
    }

    fn put(cache: &mut Cache, key: &str, bytes: usize) -> bool {
        let mut contents = Contents::default();
        if !cache.append(&mut contents, &alloc::vec![b'x'; bytes]) {
            cache.take_back(contents);
            return false;
        }
        cache.put(Entry::new(key.into(), String::new(), answer("").unwrap(), contents));
        true
    }

    fn blocks(cache: &Cache) -> usize {
        let stored = cache.entries.iter().map(|entry| entry.contents.blocks.len()).sum::<usize>();
        stored
            + cache.spare.len()
            + cache.untouched.len()
            + cache.leaving.iter().map(|contents| contents.blocks.len()).sum::<usize>()
    }

    #[test]
    fn what_is_not_for_all_is_not_stored() {
        for bad in [
            "Cache-Control: a, No-Store",
            "Cache-Control: private=\"x\"",
            "Set-Cookie: a=b",
            "Vary: a, *",
            "Cache-Control: a\r\nCache-Control: no-store",
        ] {
            assert_eq!(answer(bad), None, "{bad}");
        }
        assert!(answer("Vary: Accept-Encoding").is_some());
        assert_eq!(policy(&Head { status: 404, headers: "", framing: Framing::Length(1) }, TTL, at(0)), None);
        assert_eq!(policy(&Head { status: 200, headers: "", framing: Framing::UntilClose }, TTL, at(0)), None);
    }

    #[test]
    fn freshness_follows_the_standard() {
        for (headers, lifetime) in [
            ("", 60),
            ("Cache-Control: public, max-age=5", 5),
            ("Cache-Control: max-age=5, s-maxage=7", 7),
            ("Cache-Control: max-age=5, no-cache", 0),
            ("Cache-Control: max-age=nonsense", 0),
            ("Cache-Control: max-age=99999999999999999999999", FOR_EVER_S),
            ("Date: Wed, 28 Feb 2024 23:59:50 GMT\r\nExpires: Thu, 29 Feb 2024 00:00:10 GMT", 20),
            ("Date: Sat, 31 Dec 2022 23:00:00 GMT\r\nExpires: Sun, 01 Jan 2023 00:00:00 GMT", 3600),
            ("Date: Thu, 29 Feb 2024 00:00:10 GMT\r\nExpires: 0", 0),
            ("Expires: Thu, 29 Feb 2024 00:00:10 GMT", 0),
        ] {
            assert_eq!(answer(headers).unwrap().lifetime, Duration::from_secs(lifetime), "{headers}");
        }
        let aged = answer("Age: 50").unwrap();
        assert_eq!(aged.age(at(105)), Duration::from_secs(55));
        assert!(aged.is_fresh(at(109)) && !aged.is_fresh(at(110)));
        assert!(answer("Cache-Control: must-revalidate").unwrap().must_revalidate && !aged.must_revalidate);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = of_blocks(10);
        assert!(put(&mut cache, "/a", 4 * BLOCK_BYTES) && put(&mut cache, "/b", 4 * BLOCK_BYTES));
        assert!(cache.find("/a").is_some());
        assert!(put(&mut cache, "/c", 3 * BLOCK_BYTES));
        assert!(cache.find("/a").is_some() && cache.find("/b").is_none() && cache.find("/c").is_some());
        assert!(!put(&mut cache, "/d", 5 * BLOCK_BYTES + 1), "more than half");
    }

    #[test]
    fn what_is_read_keeps_its_room() {
        let mut cache = of_blocks(4);
        assert!(put(&mut cache, "/a", 2 * BLOCK_BYTES));
        let read = cache.find("/a").unwrap().contents.clone();
        assert!(put(&mut cache, "/a", 2 * BLOCK_BYTES), "in its place");
        let too = cache.find("/a").unwrap().contents.clone();
        assert!(!put(&mut cache, "/b", 1), "both are read");
        assert_eq!(read.piece(BLOCK_BYTES, read.len()).len(), BLOCK_BYTES);
        drop((read, too));
        assert!(put(&mut cache, "/b", 2 * BLOCK_BYTES));
        assert_eq!(blocks(&cache), 4);
    }

    #[test]
    fn heads_are_bounded_too() {
        let mut cache = of_blocks(16);
        for index in 0..100 {
            put(&mut cache, &format!("/{index}{}", "k".repeat(1000)), 0);
        }
        assert!(cache.entries.iter().map(Entry::head_bytes).sum::<usize>() <= 4 * BLOCK_BYTES);
        assert!(!cache.entries.is_empty());
    }

    #[test]
    fn very_many_very_small_answers_do_not_fill_the_heap() {
        let mut cache = of_blocks(100);
        for index in 0..1000 {
            put(&mut cache, &format!("/{index}"), 0);
        }
        assert!(cache.entries.len() * mem::size_of::<Entry>() * 2 <= 25 * BLOCK_BYTES);
        assert!(cache.find("/999").is_some() && cache.find("/0").is_none());
    }

    #[test]
    fn pieces_make_up_the_whole() {
        let mut cache = of_blocks(100);
        let mut contents = Contents::default();
        let whole: Vec<u8> = (0..3 * BLOCK_BYTES + 7).map(|index| (index % 251) as u8).collect();
        for piece in whole.chunks(1000) {
            assert!(cache.append(&mut contents, piece));
        }
        for (from, to) in
            [(0, whole.len()), (5, 6), (BLOCK_BYTES - 1, 2 * BLOCK_BYTES + 1), (2 * BLOCK_BYTES, 3 * BLOCK_BYTES), (9, 9)]
        {
            let mut read = Vec::new();
            while read.len() < to - from {
                read.extend_from_slice(contents.piece(from + read.len(), to));
            }
            assert!(read == whole[from..to] && contents.piece(to, to).is_empty());
        }
    }

    #[test]
    fn a_304_tells_anew() {
        let mut entry = Entry::new(
            "/".into(),
            "ETag: a\r\nCache-Control: max-age=1\r\nContent-Type: t\r\n".into(),
            answer("").unwrap(),
            Contents::default(),
        );
        let merged = "ETag: a\r\nContent-Type: t\r\nCache-Control: max-age=9\r\n";
        entry.refresh("Cache-Control: max-age=9\r\nContent-Type: u\r\n", "Age: 2\r\n", TTL, at(200));
        assert_eq!(entry.headers, merged);
        assert!(entry.is_fresh(at(206)) && !entry.is_fresh(at(207)));
        entry.refresh(&format!("X: {}\r\n", "x".repeat(SPARE_BYTES)), "", TTL, at(300));
        assert_eq!(entry.headers, merged, "no room was set aside for that");
        assert!(entry.is_fresh(at(308)) && !entry.is_fresh(at(309)));
    }

    #[test]
    fn the_budget_holds_whatever_happens() {
        let mut cache = of_blocks(20);
        let (mut seed, mut reading, mut coming) = (9_u32, Vec::new(), Vec::new());
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (act, key, size) = (seed >> 28, format!("/{}", (seed >> 20) % 16), (seed >> 8) as usize % (12 * BLOCK_BYTES));
            match act {
                0..4 => drop(put(&mut cache, &key, size)),
                4..7 => reading.extend(cache.find(&key).map(|entry| entry.contents.clone())),
                7..10 if !reading.is_empty() => drop(reading.swap_remove(size % reading.len())),
                10 => cache.remove(&key),
                11 => coming.push(Contents::default()),
                12 if !coming.is_empty() => cache.take_back(coming.swap_remove(size % coming.len())),
                _ if !coming.is_empty() => {
                    let index = size % coming.len();
                    let _ = cache.append(&mut coming[index], &[0; 3000]);
                }
                _ => {}
            }
            let under_way = coming.iter().map(|contents| contents.blocks.len()).sum::<usize>();
            assert_eq!(blocks(&cache) + under_way, 20, "no block is lost");
        }
    }
}
