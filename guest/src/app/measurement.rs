//! Measurements by sensor: the newest, and minimum, mean, maximum over windows of time; alarms at thresholds.
//!
//! Windows tumble: one is gathered while the last whole one is told. Values are decimal numbers kept as thousandths,
//! so that nothing depends on floating point.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub const MOST_ALARMS: usize = 64;
pub const LONGEST_NAME_BYTES: usize = 48;

/// A value in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Milli(pub i64);

impl Milli {
    /// Reads `-12.5`, `7` or `+0.25`; further digits are cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 12 || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let thousandths = fraction.bytes().chain([b'0'; 3]).take(3).fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'));
        let value = whole * 1_000 + thousandths;
        Some(Self(if negative { -value } else { value }))
    }
}

impl core::fmt::Display for Milli {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (sign, size) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(out, "{sign}{}.{:03}", size / 1_000, size % 1_000)
    }
}

/// What came in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    count: u64,
    sum: i64,
    minimum: Milli,
    maximum: Milli,
}

impl Window {
    fn of(value: Milli) -> Self {
        Self { count: 1, sum: value.0, minimum: value, maximum: value }
    }

    fn add(&mut self, value: Milli) {
        self.count += 1;
        self.sum = self.sum.saturating_add(value.0);
        self.minimum = self.minimum.min(value);
        self.maximum = self.maximum.max(value);
    }

    fn json(self) -> String {
        let mean = Milli(self.sum / self.count as i64);
        format!("{{\"count\":{},\"min\":{},\"mean\":{mean},\"max\":{}}}", self.count, self.minimum, self.maximum)
    }
}

#[derive(Debug)]
struct Sensor {
    newest: Milli,
    newest_at_ms: u64,
    total: u64,
    window: u64,
    open: Option<Window>,
    whole: Option<Window>,
    above: bool,
    below: bool,
}

/// When a sensor's value is worth an alarm: names that start with `prefix`; an empty one means all.
#[derive(Debug)]
pub struct Threshold {
    pub prefix: String,
    pub high: Option<Milli>,
    pub low: Option<Milli>,
}

/// Why a measurement was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no room for one more sensor.
    Full,
    /// The name is empty, too long, or has characters that no name has.
    Name,
}

pub struct Measurements {
    sensors: BTreeMap<String, Sensor>,
    alarms: VecDeque<String>,
    alarms_raised: u64,
    thresholds: Vec<Threshold>,
    window_ms: u64,
    most_sensors: usize,
}

impl Measurements {
    pub fn new(window_ms: u64, most_sensors: usize, thresholds: Vec<Threshold>) -> Self {
        let (sensors, alarms) = (BTreeMap::new(), VecDeque::new());
        Self { sensors, alarms, alarms_raised: 0, thresholds, window_ms: window_ms.max(1), most_sensors }
    }

    pub fn take(&mut self, name: &str, value: Milli, now_ms: u64) -> Result<(), Refused> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME_BYTES || !name.bytes().all(plain) {
            return Err(Refused::Name);
        }
        if !self.sensors.contains_key(name) && self.sensors.len() >= self.most_sensors {
            return Err(Refused::Full);
        }
        let window = now_ms / self.window_ms;
        let sensor = self.sensors.entry(name.to_string()).or_insert_with(|| Sensor::new(value, window));
        sensor.take(value, now_ms, window);
        self.check(name, value, now_ms);
        Ok(())
    }

    /// Raises an alarm when a value crosses a threshold; staying beyond raises no second one.
    fn check(&mut self, name: &str, value: Milli, now_ms: u64) {
        let Some(threshold) = self.thresholds.iter().find(|threshold| name.starts_with(&threshold.prefix)) else { return };
        let Some(sensor) = self.sensors.get_mut(name) else { return };
        let above = threshold.high.is_some_and(|high| value > high);
        let below = threshold.low.is_some_and(|low| value < low);
        let crossed = [(above && !sensor.above).then_some("high"), (below && !sensor.below).then_some("low")];
        (sensor.above, sensor.below) = (above, below);
        for kind in crossed.into_iter().flatten() {
            if self.alarms.len() == MOST_ALARMS {
                self.alarms.pop_front();
            }
            self.alarms_raised += 1;
            self.alarms.push_back(format!("{{\"sensor\":\"{name}\",\"kind\":\"{kind}\",\"value\":{value},\"at_ms\":{now_ms}}}"));
        }
    }

    /// All sensors, their newest values and windows.
    pub fn stats(&mut self, now_ms: u64) -> String {
        let window = now_ms / self.window_ms;
        let mut out =
            format!("{{\"uptime_ms\":{now_ms},\"window_ms\":{},\"alarms\":{},\"sensors\":{{", self.window_ms, self.alarms_raised);
        for (index, (name, sensor)) in self.sensors.iter_mut().enumerate() {
            sensor.turn(window);
            let comma = if index == 0 { "" } else { "," };
            out.push_str(&format!("{comma}\"{name}\":{}", sensor.json(now_ms)));
        }
        out.push_str("}}\n");
        out
    }

    pub fn alarms(&self) -> String {
        let mut out = format!("{{\"raised\":{},\"alarms\":[", self.alarms_raised);
        for (index, alarm) in self.alarms.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            out.push_str(alarm);
        }
        out.push_str("]}\n");
        out
    }

    pub fn len(&self) -> usize {
        self.sensors.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sensors.is_empty()
    }
}

impl Sensor {
    fn new(value: Milli, window: u64) -> Self {
        let flags = (false, false);
        Self { newest: value, newest_at_ms: 0, total: 0, window, open: None, whole: None, above: flags.0, below: flags.1 }
    }

    fn take(&mut self, value: Milli, now_ms: u64, window: u64) {
        self.turn(window);
        (self.newest, self.newest_at_ms, self.total) = (value, now_ms, self.total + 1);
        match &mut self.open {
            Some(open) => open.add(value),
            none => *none = Some(Window::of(value)),
        }
    }

    /// Closes the window when its time is over; after a silent one there is none to tell.
    fn turn(&mut self, window: u64) {
        if window != self.window {
            self.whole = if window == self.window + 1 { self.open } else { None };
            (self.open, self.window) = (None, window);
        }
    }

    fn json(&self, now_ms: u64) -> String {
        let of = |window: Option<Window>| window.map_or("null".to_string(), Window::json);
        let age = now_ms.saturating_sub(self.newest_at_ms);
        format!(
            "{{\"value\":{},\"age_ms\":{age},\"total\":{},\"current\":{},\"last\":{}}}",
            self.newest,
            self.total,
            of(self.open),
            of(self.whole)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milli(text: &str) -> Milli {
        Milli::parse(text).unwrap()
    }

    #[test]
    fn numbers_are_read_and_written() {
        for (text, value) in [("0", 0), ("-1.5", -1_500), ("+2.25", 2_250), ("21.4567", 21_456), (".5", 500), ("7.", 7_000)] {
            assert_eq!(milli(text), Milli(value), "{text}");
        }
        for text in ["", "-", ".", "1e5", "x", "1.2.3", "1234567890123", "١"] {
            assert_eq!(Milli::parse(text), None, "{text}");
        }
        assert_eq!(Milli(-1_050).to_string(), "-1.050");
    }

    #[test]
    fn a_window_tells_minimum_mean_and_maximum() {
        let mut all = Measurements::new(1_000, 4, Vec::new());
        for (value, at) in [("1", 0), ("2", 400), ("6", 900)] {
            all.take("t", milli(value), at).unwrap();
        }
        assert!(all.stats(950).contains("\"current\":{\"count\":3,\"min\":1.000,\"mean\":3.000,\"max\":6.000},\"last\":null"));
        assert!(all.stats(1_500).contains("\"current\":null,\"last\":{\"count\":3"));
        assert!(all.stats(3_000).contains("\"current\":null,\"last\":null"));
    }

    #[test]
    fn the_number_of_sensors_is_bounded() {
        let mut all = Measurements::new(1_000, 2, Vec::new());
        assert_eq!(all.take("a", Milli(0), 0), Ok(()));
        assert_eq!(all.take("b", Milli(0), 0), Ok(()));
        assert_eq!(all.take("c", Milli(0), 0), Err(Refused::Full));
        assert_eq!(all.take("a", Milli(0), 0), Ok(()));
        assert_eq!(all.take("a\"", Milli(0), 0), Err(Refused::Name));
        assert_eq!(all.take("", Milli(0), 0), Err(Refused::Name));
    }

    #[test]
    fn a_crossing_raises_one_alarm() {
        let threshold = Threshold { prefix: "co2".into(), high: Some(milli("1000")), low: None };
        let mut all = Measurements::new(1_000, 4, alloc::vec![threshold]);
        for value in ["900", "1001", "1500", "900", "1200"] {
            all.take("co2-1", milli(value), 5).unwrap();
            all.take("heart", milli("5000"), 5).unwrap();
        }
        assert!(all.alarms().starts_with("{\"raised\":2,"));
        for _ in 0..MOST_ALARMS {
            all.take("co2-1", milli("1"), 6).unwrap();
            all.take("co2-1", milli("2000"), 6).unwrap();
        }
        assert_eq!(all.alarms.len(), MOST_ALARMS);
    }
}
