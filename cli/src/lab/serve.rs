//! `hbat lab`: a server for the lab's page.

use std::borrow::Cow;
use std::io::Write;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use super::LabCommandError;
use super::page::Page;
use crate::args::Serve;
use crate::report::tell;
use crate::signal::{INTERRUPTED, Interrupt};

/// Sent with every answer. The first two isolate the page, so that browsers give it exact clocks and shared memory.
const HEADERS: [(header::HeaderName, &str); 4] = [
    (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// Serves the page until a signal comes.
pub(crate) async fn serve(options: &Serve) -> anyhow::Result<i32> {
    let page = Page::find(options.dir.as_deref())?;
    let address = SocketAddr::new(options.host, options.port);
    let refused = |reason| LabCommandError::Listen { address, reason };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let interrupt = Interrupt::listen();
    let url = format!("http://{}/", listener.local_addr().map_err(refused)?);
    let mut out = std::io::stdout();
    // That nobody reads it is no reason not to serve.
    let _ = writeln!(out, "the lab is at {url}; Ctrl-C ends it").and_then(|()| out.flush());
    if options.open
        && let Err(error) = open::that_detached(&url)
    {
        tell(format_args!("warning: no browser could be opened ({error}); open {url} yourself"));
    }
    tokio::select! {
        served = axum::serve(listener, router(page)).into_future() => served?,
        () = interrupt.wait() => {}
    }
    Ok(INTERRUPTED)
}

/// A file, unless the browser has this very one.
fn file(path: &str, bytes: Cow<'static, [u8]>, has: Option<&HeaderValue>) -> Response<Body> {
    // Weak, for it is of the file and not of how it is compressed.
    let tag = format!("W/\"{:x}-{:08x}\"", bytes.len(), crc32fast::hash(&bytes));
    let known = has.and_then(|tags| tags.to_str().ok()).is_some_and(|tags| tags.split(',').any(|has| has.trim() == tag));
    let mut response = match known {
        true => Response::new(Body::empty()),
        false => Response::new(Body::from(bytes.into_owned())),
    };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    for (name, value) in [(header::CONTENT_TYPE, kind.essence_str()), (header::ETAG, &tag)] {
        response.headers_mut().insert(name, HeaderValue::from_str(value).expect("letters, digits and marks"));
    }
    response
}

fn told(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn router(page: Page) -> Router {
    let compression = CompressionLayer::new().compress_when(SizeAbove::new(1024));
    Router::new().fallback(answer).layer(compression).with_state(page)
}

async fn answer(State(page): State<Page>, method: Method, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let mut response = match (page.file(path), [Method::GET, Method::HEAD].contains(&method)) {
        (_, false) => {
            let mut response = told(StatusCode::METHOD_NOT_ALLOWED, "the lab is read, by GET or HEAD\n".into());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        (Some(bytes), _) => file(path, bytes, headers.get(header::IF_NONE_MATCH)),
        (None, _) => told(StatusCode::NOT_FOUND, format!("the lab has no {path}\n")),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
