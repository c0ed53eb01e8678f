//! The pages people look at: a dashboard for supervisors (calls, captures, health, alarms) and a payment panel for
//! agents, embedded in the binary, plain modules and styles, nothing to build and nothing fetched from elsewhere. They hold no data: everything comes through the API with the user's own key, kept in
//! the browser tab, or with a panel's token for one call. In a demonstration `GET /demo/state` tells what the simulated customer keyed (as marks) and what the
//! simulated agent heard (as levels).

mod demo;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

pub use demo::{Check, DemoState, Heard, KeyForm, Keyed, Phase, Source, Verdict};

/// Path, content type, text.
const ASSETS: [(&str, &str, &str); 17] = [
    ("/assets/app.css", "text/css; charset=utf-8", include_str!("assets/app.css")),
    ("/assets/app.js", SCRIPT, include_str!("assets/app.js")),
    ("/assets/api.js", SCRIPT, include_str!("assets/api.js")),
    ("/assets/dom.js", SCRIPT, include_str!("assets/dom.js")),
    ("/assets/view.js", SCRIPT, include_str!("assets/view.js")),
    ("/assets/list.js", SCRIPT, include_str!("assets/list.js")),
    ("/assets/model.js", SCRIPT, include_str!("assets/model.js")),
    ("/assets/calls.js", SCRIPT, include_str!("assets/calls.js")),
    ("/assets/payments.js", SCRIPT, include_str!("assets/payments.js")),
    ("/assets/recordings.js", SCRIPT, include_str!("assets/recordings.js")),
    ("/assets/wave.js", SCRIPT, include_str!("assets/wave.js")),
    ("/assets/health.js", SCRIPT, include_str!("assets/health.js")),
    ("/assets/alarms.js", SCRIPT, include_str!("assets/alarms.js")),
    ("/assets/demo.js", SCRIPT, include_str!("assets/demo.js")),
    ("/assets/panel.js", SCRIPT, include_str!("assets/panel.js")),
    ("/assets/panel.css", "text/css; charset=utf-8", include_str!("assets/panel.css")),
    ("/assets/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const PAGE: &str = include_str!("assets/index.html");
const PANEL: &str = include_str!("assets/panel.html");
const EMBED: &str = include_str!("assets/embed.js");

/// The pages, to be put beside the API (`control::router`). With a `demo`, the page shows the demonstration too. The web
/// origins in `framed_by` may show the payment panel in a frame.
pub fn pages(demo: Option<Source>, framed_by: &[String]) -> Router {
    let page = PAGE.replace("{{demo}}", if demo.is_some() { "true" } else { "false" });
    let mut router =
        Router::new().route("/", serve(HTML, page)).route("/panel", panel(framed_by)).route("/embed.js", embed());
    for (path, kind, text) in ASSETS {
        router = router.route(path, serve(kind, text.to_owned()));
    }
    match demo {
        Some(source) => router.route("/demo/state", demo::route(source)),
        None => router,
    }
}

/// The payment panel: the only page that others may frame.
fn panel(framed_by: &[String]) -> axum::routing::MethodRouter {
    let page = PANEL.replace("{{origins}}", &framed_by.join(" "));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self' {}",
        framed_by.join(" ")
    );
    // Origins are checked when the configuration is read; what is no header value frames nothing.
    let policy = HeaderValue::try_from(policy.trim_end()).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    serve(HTML, page).layer(axum::middleware::map_response(move |mut response: Response| {
        let policy = policy.clone();
        async move {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            response
        }
    }))
}

/// The custom element that a CRM's page loads from here.
fn embed() -> axum::routing::MethodRouter {
    serve(SCRIPT, EMBED.to_owned()).layer(axum::middleware::map_response(|mut response: Response| async move {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
        response
    }))
}

/// A text that never changes while the node runs: the browser asks each time and mostly hears "not modified".
fn serve(kind: &'static str, text: String) -> axum::routing::MethodRouter {
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&text)[..12]));
    get(move |headers: HeaderMap| {
        let fresh = headers.get(header::IF_NONE_MATCH).is_some_and(|had| had.as_bytes() == tag.as_bytes());
        let answer = if fresh { None } else { Some(text.clone()) };
        let tag = tag.clone();
        async move { answered(kind, &tag, answer) }
    })
}

fn answered(kind: &'static str, tag: &str, text: Option<String>) -> Response {
    let mut response = match text {
        Some(text) => ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response(),
        None => StatusCode::NOT_MODIFIED.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_only_its_own_files_and_has_nothing_inline() {
        for (path, _, text) in
            ASSETS.into_iter().chain([("/", "", PAGE), ("/panel", "", PANEL), ("/embed.js", "", EMBED)])
        {
            for foreign in ["http://", "https://", "//cdn", "eval(", "innerHTML", "document.write"] {
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(foreign), "{path} has {foreign}");
            }
        }
        for inline in [" style=", " onclick=", " onload=", "<script>", "<style", "javascript:"] {
            assert!(!PAGE.contains(inline) && !PANEL.contains(inline), "a page has {inline}, which its policy forbids");
        }
        for part in PAGE.split(['"', '(']).chain(PANEL.split('"')).filter(|part| part.starts_with("/assets/")) {
            assert!(ASSETS.iter().any(|(path, ..)| *path == part), "{part} is not served");
        }
        for (path, kind, text) in ASSETS.into_iter().filter(|(_, kind, _)| *kind == SCRIPT) {
            for import in text.split("from \"").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(ASSETS.iter().any(|(path, ..)| *path == import), "{path} ({kind}) imports {import}");
            }
        }
    }
}
