//! Retrieve Capabilities (PS3.18 §8.9): what the service can do, from its own table of resources.

use std::io;

use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, Event};
use serde_json::{Value, json};

use super::resource::{ROOT, Resource};
use crate::http::extract::accepted;

const WADL: &str = "application/vnd.sun.wadl+xml";
const JSON: &str = "application/json";

/// Answers `OPTIONS` on the service's root, unless it asks whether another origin may call: that is
/// for the CORS layer inside this one, which takes every `OPTIONS` for such a question.
pub(in crate::http) async fn answer(request: Request, next: Next) -> Response {
    let is_root = request.uri().path().trim_end_matches('/') == ROOT;
    let is_preflight = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() != Method::OPTIONS || !is_root || is_preflight {
        return next.run(request).await;
    }
    // WADL is the default of §8.9.4, also for those who accept neither.
    let media = accepted(request.headers());
    let wants_json = media.first().is_some_and(|media| media.essence == JSON);
    let resources = super::all_resources();
    match wants_json {
        true => ([(header::CONTENT_TYPE, JSON)], json_of(&resources).to_string()).into_response(),
        false => match wadl_of(&resources) {
            Ok(text) => ([(header::CONTENT_TYPE, WADL)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
    }
}

fn json_of(resources: &[Resource]) -> Value {
    let resources = resources.iter().map(|resource| {
        json!({
            "method": resource.method.as_str(),
            "path": below_root(resource),
            "transaction": resource.transaction,
            "summary": resource.summary,
            "takes": resource.takes,
            "gives": resource.gives,
            "parameters": resource.parameters.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        })
    });
    json!({ "base": ROOT, "resources": resources.collect::<Vec<_>>() })
}

fn below_root(resource: &Resource) -> &str {
    resource.path.strip_prefix(ROOT).unwrap_or(&resource.path).trim_start_matches('/')
}

/// Web Application Description Language (W3C submission of 31 August 2009).
fn wadl_of(resources: &[Resource]) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 1);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    open(&mut xml, "application", &[("xmlns", "http://wadl.dev.java.net/2009/02")])?;
    open(&mut xml, "resources", &[("base", &format!("{ROOT}/"))])?;
    for resource in resources {
        open(&mut xml, "resource", &[("path", below_root(resource))])?;
        for name in resource.path_names() {
            empty(&mut xml, "param", &[("name", name), ("style", "template")])?;
        }
        let method = [("name", resource.method.as_str()), ("id", resource.id.as_str())];
        open(&mut xml, "method", &method)?;
        open(&mut xml, "request", &[])?;
        for (name, _) in resource.parameters {
            empty(&mut xml, "param", &[("name", name), ("style", "query")])?;
        }
        for media in resource.takes {
            empty(&mut xml, "representation", &[("mediaType", media)])?;
        }
        close(&mut xml, "request")?;
        open(&mut xml, "response", &[("status", resource.success().as_str())])?;
        for media in resource.gives {
            empty(&mut xml, "representation", &[("mediaType", media)])?;
        }
        ["response", "method", "resource"]
            .into_iter()
            .try_for_each(|name| close(&mut xml, name))?;
    }
    ["resources", "application"].into_iter().try_for_each(|name| close(&mut xml, name))?;
    Ok(xml.into_inner())
}

fn open(xml: &mut Writer<Vec<u8>>, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
    xml.write_event(Event::Start(start))
}

fn empty(xml: &mut Writer<Vec<u8>>, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
    xml.write_event(Event::Empty(start))
}

fn close(xml: &mut Writer<Vec<u8>>, name: &str) -> io::Result<()> {
    xml.write_event(Event::End(BytesEnd::new(name)))
}
