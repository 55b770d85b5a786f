//! An ordinary small HTTP server, written as one would write it: bind, accept, answer, one connection at a time.
//!
//! Usage: `plain-server ADDRESS:PORT`. It answers every request with the same short page.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

fn serve(mut connection: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    loop {
        let length = connection.read(&mut part)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&part[..length]);
        while let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            connection.write_all(ANSWER)?;
            request.drain(..end + 4);
        }
    }
}

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: plain-server ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let listener = match TcpListener::bind(&address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("plain-server: cannot listen on {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    for connection in listener.incoming() {
        if let Err(error) = connection.and_then(serve) {
            eprintln!("plain-server: {error}");
        }
    }
    ExitCode::SUCCESS
}
