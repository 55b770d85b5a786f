//! The image `web`.
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
const CONNECTIONS: usize = 42;
/// The connections to the origin and what is stored take room, too.
const CONNECTIONS_OF_PROXY: usize = 24;

struct Web {
    server: Server,
    site: Site,
}

fn make(config: &Config, archive: Archive<'static>, sockets: &mut SocketSet<'static>) -> Result<Web, ConfigError> {
    let port = config.parsed("port", HTTP_PORT)?.get();
    let options = Options::read(config, hal::heap_bytes())?;
    let connections = if options.is_some() { CONNECTIONS_OF_PROXY } else { CONNECTIONS };
    let server = Server::new(sockets, port, config.parsed("connections", connections)?, hal::fresh);
    let server = server.with_health(config.get("health").unwrap_or("/health"));
    let proxy = options.map(|options| Proxy::new(sockets, options, hal::random_seed(), hal::fresh));
    Ok(Web { server, site: Site::new(archive, config.get("name").unwrap_or("web"), proxy) })
}

impl App for Web {
    fn poll(&mut self, interface: &mut Interface, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let site = &mut self.site;
        let changed = self.server.poll(sockets, now, &mut |request| site.answer(request, now));
        site.poll(interface, sockets, now) || changed
    }

    fn poll_at(&self, _now: Instant) -> Option<Instant> {
        [self.server.poll_at(), self.site.poll_at()].into_iter().flatten().min()
    }

    fn wanted_at(&self, now: Instant) -> Instant {
        self.server.wanted_at(now)
    }
}
