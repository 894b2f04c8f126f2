//! Other nodes: dcmtk's programs, Orthanc, and a second server of our own, on real sockets.

mod dcmtk;
mod hostile;
mod killed;
mod orthanc;
mod peers;
mod queries;
mod retrievals;
mod scu;
mod standing;
mod two_servers;

use seer::config::{Config, DicomwebNode, DimseNode, Retrieve};
use serde_json::Value;

use crate::support::Server;

/// A node that dials from, and listens on, this machine.
fn dimse(name: &str, ae_title: &str, port: u16) -> DimseNode {
    DimseNode {
        name: name.into(),
        ae_title: ae_title.into(),
        host: "127.0.0.1".into(),
        port,
        may_send: true,
        may_query: false,
        fetch: true,
        retrieve: Retrieve::Move,
    }
}

fn dicomweb(name: &str, url: &str) -> DicomwebNode {
    DicomwebNode {
        name: name.into(),
        url: url.into(),
        bearer: None,
        user: None,
        password: None,
        headers: Default::default(),
        fetch: true,
    }
}

/// Settings that listen on a free port and try again soon.
fn listening(config: &mut Config) {
    config.pacs.bind = Some("127.0.0.1:0".parse().unwrap());
    config.pacs.idle_timeout_seconds = 20;
    config.pacs.retry_seconds = 1;
    config.pacs.retry_seconds_max = 1;
}

/// A server without models that takes associations.
async fn server(change: impl FnOnce(&mut Config)) -> Server {
    Server::with(
        |config| {
            listening(config);
            change(config);
        },
        None,
    )
    .await
}

fn port(server: &Server) -> u16 {
    server.app.pacs.address().expect("it listens").port()
}

/// Runs what blocks beside the tests' own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Waits until an order says what is looked for.
async fn until(server: &Server, id: &str, what: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let (_, order) = server.get_json(&format!("/api/v1/orders/{id}")).await;
        if what(&order) {
            return order;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (_, order) = server.get_json(&format!("/api/v1/orders/{id}")).await;
    panic!("the order did not get there in 30 seconds: {order:#}");
}

/// How many instances of a study a server keeps.
async fn count(server: &Server, study: &str) -> usize {
    let (_, found) = server.get_json(&format!("/dicom-web/studies/{study}/instances")).await;
    found.as_array().map_or(0, Vec::len)
}
