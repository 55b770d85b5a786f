//! The zone: which names there are, whose they are, and who is nearest to whom.

use super::message::Code;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// The zone as a controller writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    zone: String,
    ttl_s: u32,
    serial: u32,
    upstreams: Vec<SocketAddr>,
    servers: Vec<Listener>,
    instances: BTreeMap<String, DeclaredInstance>,
    names: BTreeMap<String, DeclaredName>,
    /// From the host of a server to the host of an instance [us].
    delays_us: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Where queries arrive.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub host: String,
    /// Descriptors: bound, listening, and one to forward from.
    pub udp: RawFd,
    pub tcp: RawFd,
    pub upstream: RawFd,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredInstance {
    a: Ipv4Addr,
    aaaa: Option<Ipv6Addr>,
    host: String,
    wake: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredName {
    instances: Vec<String>,
    /// Ports by service and protocol, as `_http._tcp`.
    #[serde(default)]
    services: BTreeMap<String, u16>,
}

pub struct Instance {
    pub name: String,
    pub a: Ipv4Addr,
    pub aaaa: Option<Ipv6Addr>,
    /// The child that the keeper starts for it; `None` for one that always runs.
    pub wake: Option<String>,
    host: String,
}

struct Name {
    instances: Vec<usize>,
    services: BTreeMap<String, u16>,
}

pub struct Zone {
    /// In lower case, without the last dot.
    pub name: String,
    pub ttl_s: u32,
    pub serial: u32,
    pub upstreams: Vec<SocketAddr>,
    pub listeners: Vec<Listener>,
    pub instances: Vec<Instance>,
    names: HashMap<String, Name>,
    /// Names that only stand between others, as `_tcp.web`.
    between: HashSet<String>,
    delays_us: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Not in this zone.
    Outside,
    Missing,
    /// The zone itself.
    Apex,
    /// A name without any data of its own.
    Empty,
    /// Instances, in no order.
    Name(Vec<usize>),
    /// Instances, in no order, and the port of the service.
    Service(Vec<usize>, u16),
}

impl Zone {
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let Document { zone, ttl_s, serial, upstreams, servers, instances, names, delays_us } =
            serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        let places: HashMap<&str, usize> = instances.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let place = |name: &String| places.get(name.as_str()).copied().ok_or_else(|| format!("no instance {name:?}"));
        let mut known = HashMap::new();
        for (name, DeclaredName { instances, services }) in names {
            let instances = instances.iter().map(place).collect::<Result<_, _>>()?;
            known.insert(name.to_ascii_lowercase(), Name { instances, services });
        }
        let between = known.iter().flat_map(|(name, one)| standing_between(name, one)).collect();
        let instances = instances.into_iter().map(|(name, one)| one.named(name)).collect();
        let name = zone.trim_end_matches('.').to_ascii_lowercase();
        Ok(Self { name, ttl_s, serial, upstreams, listeners: servers, instances, names: known, between, delays_us })
    }

    /// What `name` (lower case, whole) stands for.
    pub fn find(&self, name: &str) -> Found {
        if name == self.name {
            return Found::Apex;
        }
        let Some(relative) = name.strip_suffix(&self.name).and_then(|rest| rest.strip_suffix('.')) else {
            return Found::Outside;
        };
        if let Some(one) = self.names.get(relative) {
            return Found::Name(one.instances.clone());
        }
        let mut labels = relative.splitn(3, '.');
        if let (Some(service), Some(protocol), Some(rest)) = (labels.next(), labels.next(), labels.next())
            && let Some(one) = self.names.get(rest)
            && let Some(port) = one.services.get(&format!("{service}.{protocol}"))
        {
            return Found::Service(one.instances.clone(), *port);
        }
        if relative == "ns" || self.between.contains(relative) { Found::Empty } else { Found::Missing }
    }

    /// Takes the instance out of `candidates` that is nearest to `host`; of equally near ones the first.
    pub fn take_nearest(&self, host: &str, candidates: &mut Vec<usize>) -> Option<usize> {
        let from_here = self.delays_us.get(host);
        let delay_us = |place: usize| {
            let instance = &self.instances[place];
            from_here.and_then(|delays| delays.get(&instance.host)).copied().unwrap_or(u64::MAX)
        };
        let nearest = (0..candidates.len()).min_by_key(|at| (delay_us(candidates[*at]), *at))?;
        Some(candidates.remove(nearest))
    }

    pub fn full_name(&self, instance: &Instance) -> String {
        format!("{}.{}", instance.name, self.name)
    }

    /// The code for a name that stands for this.
    pub fn code_of(found: &Found) -> Code {
        match found {
            Found::Missing => Code::NxDomain,
            Found::Outside => Code::Refused,
            _ => Code::NoError,
        }
    }
}

impl DeclaredInstance {
    fn named(self, name: String) -> Instance {
        Instance { name, a: self.a, aaaa: self.aaaa, wake: self.wake, host: self.host }
    }
}

/// The names that exist only because `name` and its services do.
fn standing_between(name: &str, one: &Name) -> Vec<String> {
    let protocols = one.services.keys().filter_map(|service| service.split_once('.'));
    let mut between: Vec<String> = protocols.map(|(_, protocol)| format!("{protocol}.{name}")).collect();
    let mut rest = name;
    while let Some((_, parent)) = rest.split_once('.') {
        between.push(parent.to_owned());
        rest = parent;
    }
    between
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const DOCUMENT: &str = r#"{"zone":"Fog.internal.","ttl_s":5,"serial":7,"upstreams":[],"servers":[],
        "instances":{"web-a":{"a":"10.0.16.2","aaaa":"fd57::1","host":"h1","wake":"instance/web-a"},
                     "web-b":{"a":"10.0.32.2","aaaa":null,"host":"h2","wake":null}},
        "names":{"web":{"instances":["web-a","web-b"],"services":{"_http._tcp":80}},"web-a":{"instances":["web-a"]},
                 "web.shop":{"instances":["web-b"]}},
        "delays_us":{"h1":{"h1":0,"h2":5000},"h2":{"h1":5000,"h2":0}}}"#;

    #[test]
    fn finds_what_a_name_stands_for() {
        let zone = Zone::read(DOCUMENT.as_bytes()).unwrap();
        assert_eq!(zone.find("fog.internal"), Found::Apex);
        assert_eq!(zone.find("web.fog.internal"), Found::Name(vec![0, 1]));
        assert_eq!(zone.find("_http._tcp.web.fog.internal"), Found::Service(vec![0, 1], 80));
        assert_eq!(zone.find("_tcp.web.fog.internal"), Found::Empty);
        assert_eq!(zone.find("web.shop.fog.internal"), Found::Name(vec![1]));
        assert_eq!(zone.find("shop.fog.internal"), Found::Empty);
        assert_eq!(zone.find("nobody.fog.internal"), Found::Missing);
        assert_eq!(zone.find("_ftp._tcp.web.fog.internal"), Found::Missing);
        assert_eq!(zone.find("example.org"), Found::Outside);
        assert_eq!(zone.find("notfog.internal"), Found::Outside);
    }

    #[test]
    fn the_nearest_comes_first() {
        let zone = Zone::read(DOCUMENT.as_bytes()).unwrap();
        let order = |host| {
            let mut left = vec![0, 1];
            std::iter::from_fn(|| zone.take_nearest(host, &mut left)).collect::<Vec<_>>()
        };
        assert_eq!((order("h1"), order("h2"), order("elsewhere")), (vec![0, 1], vec![1, 0], vec![0, 1]));
    }

    #[test]
    fn a_name_of_nobody_is_refused() {
        let text = DOCUMENT.replace(r#"["web-b"]"#, r#"["web-z"]"#);
        assert!(Zone::read(text.as_bytes()).is_err_and(|why| why.contains("web-z")));
    }
}
