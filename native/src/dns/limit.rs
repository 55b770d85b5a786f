//! How many answers without use (no such name, refused, failed) one client gets: a flood of questions for names that do
//! not exist costs us little, and nobody whose address somebody else put on them anything.

use std::collections::HashMap;
use std::net::IpAddr;

const PER_SECOND: f64 = 100.0;
const BURST: f64 = 200.0;
const MOST_CLIENTS: usize = 4096;
const NS_PER_SECOND: f64 = 1e9;

/// Tokens left, and when that was [ns].
type Bucket = (f64, u64);

#[derive(Default)]
pub struct Limiter(HashMap<IpAddr, Bucket>);

impl Limiter {
    /// Whether this client may have another one at `now_ns`.
    pub fn allow(&mut self, client: IpAddr, now_ns: u64) -> bool {
        let client = network_of(client);
        if self.0.len() >= MOST_CLIENTS && !self.0.contains_key(&client) {
            self.0.retain(|_, bucket| filled(bucket, now_ns) < BURST);
            if self.0.len() >= MOST_CLIENTS {
                return false;
            }
        }
        let bucket = self.0.entry(client).or_insert((BURST, now_ns));
        let tokens = filled(bucket, now_ns);
        *bucket = ((tokens - 1.0).max(0.0), now_ns);
        tokens >= 1.0
    }
}

fn filled((tokens, at_ns): &Bucket, now_ns: u64) -> f64 {
    (tokens + now_ns.saturating_sub(*at_ns) as f64 / NS_PER_SECOND * PER_SECOND).min(BURST)
}

/// One client may have as many IPv6 addresses as it likes in its own network.
fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_others_are_served() {
        let mut limiter = Limiter::default();
        let flooder: IpAddr = "100.64.0.1".parse().unwrap();
        let answered = (0..10_000).filter(|_| limiter.allow(flooder, 7)).count();
        assert_eq!(answered, 200);
        assert!(limiter.allow("100.64.0.2".parse().unwrap(), 7));
        assert!(limiter.allow(flooder, 7 + 20_000_000));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut limiter = Limiter::default();
        for number in 0..20_000_u32 {
            limiter.allow(IpAddr::V4(number.into()), 7);
        }
        assert_eq!(limiter.0.len(), MOST_CLIENTS);
        assert!(limiter.allow("100.64.0.2".parse().unwrap(), 7 + 10_000_000_000));
    }
}
