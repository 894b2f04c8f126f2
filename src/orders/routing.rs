//! Where the images of an order come from and where its result goes.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::delivery::Delivery;
use super::fetch::FetchStatus;
use super::{NewOrder, OrderError, Orders};

/// Where the images of an order come from and where its result goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Routing {
    /// The node to fetch the study from; when absent, a study that is not stored here is looked
    /// for on every node.
    pub source: Option<String>,
    /// The nodes that get the result, besides those that get every result.
    pub deliver_to: Vec<String>,
}

/// Beside `orders`, because it says how an order gets to and from the walk, not what it is.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS order_routing (
    id                  TEXT PRIMARY KEY,
    routing             TEXT NOT NULL,
    fetch               TEXT,
    fetch_after         INTEGER NOT NULL DEFAULT 0,
    fetch_attempt_count INTEGER NOT NULL DEFAULT 0,
    fetch_error         TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS order_routing_by_fetch ON order_routing (fetch, fetch_after);
";

/// Columns of a query over `orders` that [`read`] and `fetch::read` take; `fetch` is a JSON object.
pub(super) const COLUMNS: &str = "(SELECT r.routing FROM order_routing r WHERE r.id = orders.id) AS routing, \
     (SELECT json_object('wanted', r.fetch = 'wanted', 'attempt_count', r.fetch_attempt_count, \
      'error', json(r.fetch_error)) FROM order_routing r \
      WHERE r.id = orders.id AND r.fetch IS NOT NULL) AS fetch, \
     (SELECT json_group_array(json_object('id', d.id, 'order_id', d.order_id, 'node', d.node, \
      'state', d.state, 'attempt_count', d.attempt_count, 'error', json(d.error), \
      'next_at', CASE d.state WHEN 'waiting' THEN \
      strftime('%Y-%m-%dT%H:%M:%fZ', d.next_at / 1000.0, 'unixepoch') END, \
      'updated_at', strftime('%Y-%m-%dT%H:%M:%fZ', d.updated_at / 1000.0, 'unixepoch'))) \
      FROM (SELECT * FROM deliveries d WHERE d.order_id = orders.id ORDER BY d.id) d) \
     AS deliveries";

/// Keeps the routing of an order that is being inserted.
pub(super) fn insert(
    connection: &Connection,
    id: Uuid,
    routing: &Routing,
    fetch: Fetch,
) -> Result<(), OrderError> {
    let fetch = match fetch {
        Fetch::First => Some("wanted"),
        Fetch::Nothing => None,
    };
    connection.execute(
        "INSERT INTO order_routing (id, routing, fetch) VALUES (?1, ?2, ?3)",
        params![id.to_string(), serde_json::to_string(routing)?, fetch],
    )?;
    Ok(())
}

/// Whether the images must be fetched before the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// They are here.
    Nothing,
    /// Another node has them.
    First,
}

/// What [`COLUMNS`] say of an order.
pub(super) struct Way {
    pub(super) routing: Routing,
    pub(super) fetch: Option<FetchStatus>,
    pub(super) deliveries: Vec<Delivery>,
}

/// Reads [`COLUMNS`] of a row; orders from before there was any routing have none.
pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Way> {
    let json = |column| row.get::<_, Option<String>>(column);
    let broken = |error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    };
    let routing = json("routing")?.map(|text| serde_json::from_str(&text)).transpose();
    let deliveries = json("deliveries")?.map(|text| serde_json::from_str(&text)).transpose();
    let fetch = json("fetch")?.map(|text| serde_json::from_str(&text)).transpose();
    Ok(Way {
        routing: routing.map_err(broken)?.unwrap_or_default(),
        fetch: fetch.map_err(broken)?,
        deliveries: deliveries.map_err(broken)?.unwrap_or_default(),
    })
}

impl Orders {
    /// Refuses names of nodes that are not configured.
    pub(super) fn check_routing(&self, new: &NewOrder) -> Result<(), OrderError> {
        let names = new.routing.source.iter().chain(&new.routing.deliver_to);
        for name in names {
            if !self.shared.pacs.as_ref().is_some_and(|pacs| pacs.has_node(name)) {
                return Err(OrderError::UnknownNode { name: name.chars().take(64).collect() });
            }
        }
        Ok(())
    }
}
