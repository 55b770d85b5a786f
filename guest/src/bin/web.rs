//! The image `web`.
#![no_std]
#![no_main]

use core::num::NonZeroU16;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::time::Instant;
use wisp_guest::app::App;
use wisp_guest::app::server::Server;
use wisp_guest::app::web::{Nowhere, Site};
use wisp_guest::config::{Config, ConfigError};
use wisp_guest::content::Archive;
use wisp_guest::hal;

wisp_guest::image!(make);

const HTTP_PORT: NonZeroU16 = NonZeroU16::new(80).unwrap();

struct Web {
    server: Server,
    site: Site<Nowhere>,
}

fn make(config: &Config, archive: Archive<'static>, sockets: &mut SocketSet<'static>) -> Result<Web, ConfigError> {
    let port = config.parsed("port", HTTP_PORT)?.get();
    let server = Server::new(sockets, port, config.parsed("connections", 42)?, hal::fresh);
    let server = server.with_health(config.get("health").unwrap_or("/health"));
    Ok(Web { server, site: Site::new(archive, config.get("name").unwrap_or("web"), None) })
}

impl App for Web {
    fn poll(&mut self, _: &mut Interface, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let site = &mut self.site;
        self.server.poll(sockets, now, &mut |request| site.answer(request, now))
    }

    fn poll_at(&self, _now: Instant) -> Option<Instant> {
        self.server.poll_at()
    }

    fn wanted_at(&self, now: Instant) -> Instant {
        self.server.wanted_at(now)
    }

    fn leave(&mut self, now: Instant) {
        self.server.leave(now);
    }
}
