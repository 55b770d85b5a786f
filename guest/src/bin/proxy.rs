//! The image `proxy`: serves what is baked in, and brings everything else from an origin.
#![no_std]
#![no_main]

use core::num::NonZeroU16;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::time::Instant;
use wisp_guest::app::App;
use wisp_guest::app::proxy::{Options, Proxy};
use wisp_guest::app::server::Server;
use wisp_guest::app::web::Site;
use wisp_guest::config::{Config, ConfigError};
use wisp_guest::content::Archive;
use wisp_guest::hal;

wisp_guest::image!(make);

const HTTP_PORT: NonZeroU16 = NonZeroU16::new(80).unwrap();
/// Fewer than of a plain server: the connections to the origin and what is stored take room, too.
const CONNECTIONS: usize = 24;

struct Near {
    server: Server,
    site: Site<Proxy>,
}

fn make(config: &Config, archive: Archive<'static>, sockets: &mut SocketSet<'static>) -> Result<Near, ConfigError> {
    let port = config.parsed("port", HTTP_PORT)?.get();
    let Some(options) = Options::read(config, hal::heap_bytes())? else {
        return Err(ConfigError { key: "origin".into(), reason: "is missing" });
    };
    let server = Server::new(sockets, port, config.parsed("connections", CONNECTIONS)?, hal::fresh);
    let server = server.with_health(config.get("health").unwrap_or("/health"));
    let proxy = Proxy::new(sockets, options, hal::random_seed(), hal::fresh);
    Ok(Near { server, site: Site::new(archive, config.get("name").unwrap_or("proxy"), Some(proxy)) })
}

impl App for Near {
    fn poll(&mut self, interface: &mut Interface, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let site = &mut self.site;
        let changed = self.server.poll(sockets, now, &mut |request| site.answer(request, now));
        site.beyond.as_mut().is_some_and(|proxy| proxy.poll(interface, sockets, now)) || changed
    }

    fn poll_at(&self, _now: Instant) -> Option<Instant> {
        [self.server.poll_at(), self.site.beyond.as_ref().and_then(Proxy::poll_at)].into_iter().flatten().min()
    }

    fn wanted_at(&self, now: Instant) -> Instant {
        self.server.wanted_at(now)
    }

    fn leave(&mut self, now: Instant) {
        self.server.leave(now);
    }
}
