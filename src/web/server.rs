//! A [`Site`] on loopback, by `oxhttp`: for the browser on this machine and nobody else.
//!
//! Loopback alone does not keep other pages out: a page of any site may ask this address, and by DNS rebinding (a name that first
//! means that site and then this machine) read the answer. So a request must be addressed to this machine by one of its own
//! names, and no answer permits other pages to read or embed it.

use super::{Site, SiteResponse, Source};
use crate::error::{Error, Result};
use oxhttp::Server;
use oxhttp::model::{Body, Method, Request, Response, StatusCode, header};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Connections at a time; a browser opens six.
const MAX_CONNECTIONS: usize = 256;

/// A connection that says nothing, or takes nothing, for this long is closed: those that stay silent must not use up all of them. A browser
/// opens another when it needs one.
const SILENCE: Duration = Duration::from_secs(5);

/// The headers that every answer has besides its type.
const HEADERS: [(&str, &str); 4] =
    [("x-content-type-options", "nosniff"), ("cross-origin-resource-policy", "same-origin"), ("cache-control", "no-store"), ("referrer-policy", "no-referrer")];

/// The ports that are assigned to nobody (RFC 6335, section 6).
const DYNAMIC: std::ops::RangeInclusive<u16> = 49152..=65535;

/// Serves from now on, on threads of its own, until the program ends; port 0 takes any that is free. Returns the address.
///
/// # Errors
/// [`Error::Usage`] for a port that is taken or forbidden.
pub fn spawn(site: Arc<Site>, port: u16) -> Result<SocketAddr> {
    if port != 0 {
        return listen(site, port).map_err(|error| refused(port, &error));
    }
    // `oxhttp` binds by itself and does not say which port the system chose. To ask the system first and bind again would leave the port to
    // others in between: so one after the other is tried, from a place that differs between processes.
    let first = std::process::id() as usize * 61;
    let mut ports = (0..DYNAMIC.len()).map(|i| DYNAMIC.start() + ((first + i) % DYNAMIC.len()) as u16);
    loop {
        let port = ports.next().ok_or_else(|| Error::Usage("no port of this machine is free for the page".into()))?;
        match listen(site.clone(), port) {
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {}
            done => return done.map_err(|error| refused(port, &error)),
        }
    }
}

fn listen(site: Arc<Site>, port: u16) -> std::io::Result<SocketAddr> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Server::new(move |request| answer(&site, request, port))
        .bind(address)
        .with_max_concurrent_connections(MAX_CONNECTIONS)
        .with_global_timeout(SILENCE)
        .spawn()?;
    Ok(address)
}

fn refused(port: u16, error: &std::io::Error) -> Error {
    let why = match error.kind() {
        ErrorKind::AddrInUse => "another program uses it".to_string(),
        ErrorKind::PermissionDenied => "the system reserves it for its administrator".to_string(),
        _ => error.to_string(),
    };
    Error::Usage(format!("port {port}: {why}; give another with --port, or --port 0 for one that is free"))
}

fn answer(site: &Site, request: &Request<Body>, port: u16) -> Response<Body> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| is_own(host, port)) {
        return plain(StatusCode::MISDIRECTED_REQUEST, &format!("this is http://127.0.0.1:{port}/, and answers under no other name\n"));
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
    }
    let path = request.uri().path();
    match path.strip_prefix('/').map(|name| site.open(name)) {
        Some(Ok(Some(SiteResponse { mime, source: Source::Bytes(bytes) }))) => response(StatusCode::OK, mime, Body::from(bytes.into_owned())),
        Some(Ok(Some(SiteResponse { mime, source: Source::File(file) }))) => response(StatusCode::OK, mime, Body::from_read(file)),
        Some(Err(error)) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        Some(Ok(None)) | None => plain(StatusCode::NOT_FOUND, "there is no such file here\n"),
    }
}

/// Whether a Host header names this machine, at this port.
fn is_own(host: &str, port: u16) -> bool {
    let (name, of) = host.rsplit_once(':').filter(|(_, of)| of.bytes().all(|b| b.is_ascii_digit())).unwrap_or((host, "80"));
    (name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost")) && of.parse() == Ok(port)
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", Body::from(text.to_string()))
}

fn response(status: StatusCode, mime: &str, body: Body) -> Response<Body> {
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, mime);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response = response.header(header::ALLOW, "GET");
    }
    HEADERS.into_iter().fold(response, |response, (name, value)| response.header(name, value)).body(body).expect("fixed names and values")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_found_and_kept() {
        let site = Arc::new(Site::new(None).unwrap());
        let [one, other] = [0, 0].map(|port| spawn(site.clone(), port).unwrap());
        assert!(one != other && DYNAMIC.contains(&one.port()) && DYNAMIC.contains(&other.port()));
        for address in [one, other] {
            assert_eq!(std::net::TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
            let refused = spawn(site.clone(), address.port()).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("port {}: another program uses it", address.port())), "{refused}");
        }
    }

    #[test]
    fn only_this_machine_by_its_own_names() {
        for own in ["127.0.0.1:8765", "localhost:8765", "LocalHost:8765"] {
            assert!(is_own(own, 8765), "{own}");
        }
        for other in ["evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:8765", "localhost:8765.evil", "[::1]:8765", "", ":8765"] {
            assert!(!is_own(other, 8765), "{other}");
        }
        assert!(is_own("localhost", 80) && is_own("127.0.0.1", 80));
    }
}
