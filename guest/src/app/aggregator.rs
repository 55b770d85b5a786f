//! The role `aggregator`: takes measurements over CoAP, tells windows and alarms over HTTP and CoAP.
//!
//! `POST` or `PUT /m/NAME` with a decimal number, or JSON with a number under `v`.

use crate::app::coap::{self, Message, Reply};
use crate::app::http::{Request, Response, Status};
use crate::app::measurement::{Measurements, Milli, Refused, Threshold};
use crate::config::{Config, ConfigError};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

const LINKS: &str = "</m>;rt=\"measurement\";ct=0,</stats>;ct=50";

pub struct Aggregator {
    name: String,
    measurements: Measurements,
    taken: u64,
    refused: u64,
}

impl Aggregator {
    /// Options: `window=10s`, `sensors=64`, `alarm.PREFIX.high=N`, `alarm.PREFIX.low=N`.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let window = config.duration("window", Duration::from_secs(10))?;
        let measurements = Measurements::new(window.as_millis() as u64, config.parsed("sensors", 64)?, thresholds(config)?);
        Ok(Self { name: config.get("name").unwrap_or("aggregator").to_string(), measurements, taken: 0, refused: 0 })
    }

    pub fn coap(&mut self, message: &Message<'_>, now_ms: u64) -> Reply {
        match (message.code, message.path.as_slice()) {
            _ if message.bad_option => Reply::code(coap::BAD_OPTION),
            (coap::POST | coap::PUT, ["m", name]) => self.take(name, message.payload, now_ms),
            (_, ["m", _]) => Reply::code(coap::METHOD_NOT_ALLOWED),
            (coap::GET, ["stats"]) => {
                Reply { code: coap::CONTENT, format: Some(coap::JSON), payload: self.measurements.stats(now_ms).into_bytes() }
            }
            (coap::GET, [".well-known", "core"]) => {
                Reply { code: coap::CONTENT, format: Some(coap::LINK_FORMAT), payload: LINKS.as_bytes().to_vec() }
            }
            (_, ["stats"] | [".well-known", "core"]) => Reply::code(coap::METHOD_NOT_ALLOWED),
            _ => Reply::code(coap::NOT_FOUND),
        }
    }

    fn take(&mut self, name: &str, payload: &[u8], now_ms: u64) -> Reply {
        let taken = match value(payload) {
            None => Reply::code(coap::BAD_REQUEST),
            Some(value) => match self.measurements.take(name, value, now_ms) {
                Ok(()) => Reply::code(coap::CHANGED),
                Err(Refused::Name) => Reply::code(coap::BAD_REQUEST),
                Err(Refused::Full) => Reply::code(coap::SERVICE_UNAVAILABLE),
            },
        };
        if taken.code == coap::CHANGED {
            self.taken += 1
        } else {
            self.refused += 1
        };
        taken
    }

    pub fn http(&mut self, request: &Request<'_>, now_ms: u64) -> Response {
        if !matches!(request.method, "GET" | "HEAD") {
            return Response::plain(Status::MethodNotAllowed).with_header("Allow", "GET, HEAD");
        }
        match request.path {
            "/health" => Response::json(self.health()),
            "/stats" | "/" => Response::json(self.measurements.stats(now_ms)),
            "/alarms" => Response::json(self.measurements.alarms()),
            _ => Response::plain(Status::NotFound),
        }
    }

    fn health(&self) -> String {
        let (name, sensors) = (&self.name, self.measurements.len());
        format!(
            "{{\"name\":\"{name}\",\"status\":\"ok\",\"sensors\":{sensors},\"taken\":{},\"refused\":{}}}\n",
            self.taken, self.refused
        )
    }
}

/// A payload's number: plain, or under `v` in a JSON object.
fn value(payload: &[u8]) -> Option<Milli> {
    let text = core::str::from_utf8(payload).ok()?.trim();
    let Some(object) = text.strip_prefix('{') else { return Milli::parse(text) };
    let after = &object[object.find("\"v\"")? + 3..];
    let number = after.trim_start().strip_prefix(':')?.trim_start();
    Milli::parse(number[..number.find([',', '}'])?].trim())
}

fn thresholds(config: &Config) -> Result<Vec<Threshold>, ConfigError> {
    let mut found: Vec<Threshold> = Vec::new();
    for (key, text) in config.with_prefix("alarm.") {
        let problem = |reason| ConfigError { key: format!("alarm.{key}"), reason };
        let limit = Some(Milli::parse(text).ok_or(problem("is not a number"))?);
        let (prefix, side) = key.rsplit_once('.').unwrap_or(("", key));
        let index = found.iter().position(|threshold| threshold.prefix == prefix).unwrap_or(found.len());
        if index == found.len() {
            found.push(Threshold { prefix: prefix.to_string(), high: None, low: None });
        }
        match side {
            "high" => found[index].high = limit,
            "low" => found[index].low = limit,
            _ => return Err(problem("ends neither in .high nor in .low")),
        }
    }
    // The longest prefix is the most particular one.
    found.sort_by_key(|threshold| core::cmp::Reverse(threshold.prefix.len()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::coap::parse;

    fn aggregator(line: &str) -> Aggregator {
        Aggregator::new(&Config::parse(&[line]).unwrap()).unwrap()
    }

    fn post(to: &mut Aggregator, sensor: u8, payload: &[u8]) -> u8 {
        let mut bytes = alloc::vec![0x40, coap::POST, 0, 1, 0xb1, b'm', 0x01, sensor, 0xff];
        bytes.extend(payload);
        to.coap(&parse(&bytes).unwrap(), 10).code
    }

    #[test]
    fn measurements_come_in() {
        let mut one = aggregator("name=a window=1s sensors=2");
        assert_eq!(post(&mut one, b't', b"21.5"), coap::CHANGED);
        assert_eq!(post(&mut one, b'u', b"{\"n\":\"x\", \"v\": -3.25}"), coap::CHANGED);
        assert_eq!(post(&mut one, b'v', b"1"), coap::SERVICE_UNAVAILABLE);
        assert_eq!(post(&mut one, b't', b"hot"), coap::BAD_REQUEST);
        assert_eq!(post(&mut one, b't', b"{\"v\":"), coap::BAD_REQUEST);
        assert!(one.health().contains("\"sensors\":2,\"taken\":2,\"refused\":3"));
    }

    #[test]
    fn the_most_particular_threshold_holds() {
        let mut one = aggregator("alarm.high=100 alarm.t.high=10");
        assert_eq!(post(&mut one, b't', b"11"), coap::CHANGED);
        assert_eq!(post(&mut one, b'u', b"11"), coap::CHANGED);
        assert!(one.measurements.alarms().starts_with("{\"raised\":1,"));
    }

    #[test]
    fn wrong_options_are_told() {
        let wrong = |line| Aggregator::new(&Config::parse(&[line]).unwrap()).err().map(|error| error.key);
        assert_eq!(wrong("alarm.t.high=x"), Some("alarm.t.high".into()));
        assert_eq!(wrong("alarm.t.wide=1"), Some("alarm.t.wide".into()));
        assert_eq!(wrong("window=soon"), Some("window".into()));
    }

    #[test]
    fn other_requests_have_their_codes() {
        let mut one = aggregator("");
        let code = |one: &mut Aggregator, bytes: &[u8]| one.coap(&parse(bytes).unwrap(), 0).code;
        assert_eq!(code(&mut one, b"\x40\x01\x00\x01\xb5stats"), coap::CONTENT);
        assert_eq!(code(&mut one, b"\x40\x02\x00\x01\xb5stats"), coap::METHOD_NOT_ALLOWED);
        assert_eq!(code(&mut one, b"\x40\x01\x00\x01\xb1x"), coap::NOT_FOUND);
        assert_eq!(code(&mut one, b"\x40\x01\x00\x01\xbb.well-known\x04core"), coap::CONTENT);
        assert_eq!(code(&mut one, b"\x40\x01\x00\x01\x90"), coap::BAD_OPTION);
    }
}
