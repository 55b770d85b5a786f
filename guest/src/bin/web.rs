//! The image `web`.
#![no_std]
#![no_main]

use smoltcp::iface::SocketSet;
use smoltcp::time::Instant;
use wisp_guest::app::App;
use wisp_guest::app::server::Server;
use wisp_guest::app::web::Site;
use wisp_guest::config::{Config, ConfigError};
use wisp_guest::content::Archive;

wisp_guest::image!(make);

struct Web {
    server: Server,
    site: Site,
}

fn make(config: &Config, archive: Archive<'static>, sockets: &mut SocketSet<'static>) -> Result<Web, ConfigError> {
    let server = Server::new(sockets, config.parsed("port", 80)?, config.parsed("connections", 32)?);
    Ok(Web { server, site: Site::new(archive, config.get("name").unwrap_or("web")) })
}

impl App for Web {
    fn poll(&mut self, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let site = &self.site;
        self.server.poll(sockets, now, &mut |request| site.answer(request))
    }

    fn poll_at(&self, _now: Instant) -> Option<Instant> {
        self.server.poll_at()
    }
}
