//! Who is told of which work items (PS3.18 §11.10 to §11.12, PS3.4 §CC.2.3).
//!
//! A subscription to the worklist, whole or filtered, subscribes to the items that are there and
//! to those that come; so the rows per item alone say who is told of what.

use rusqlite::{Connection, params};

use super::events::state_report;
use super::item::Workitem;
use super::query::WorkitemQuery;
use super::{Worklist, WorklistError, store};
use crate::dicom::SopInstanceUid;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS item_subscriptions (
    aet           TEXT NOT NULL,
    uid           TEXT NOT NULL,
    deletion_lock INTEGER NOT NULL,
    PRIMARY KEY (aet, uid)
) STRICT;
CREATE INDEX IF NOT EXISTS item_subscriptions_by_item ON item_subscriptions (uid);
CREATE TABLE IF NOT EXISTS worklist_subscriptions (
    aet           TEXT NOT NULL,
    filter        TEXT NOT NULL,
    deletion_lock INTEGER NOT NULL,
    PRIMARY KEY (aet, filter)
) STRICT;
";

/// What a subscription is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One work item.
    Item(SopInstanceUid),
    /// The whole worklist (1.2.840.10008.5.1.4.34.5).
    Worklist,
    /// Those work items of the worklist that match (1.2.840.10008.5.1.4.34.5.1): attributes and
    /// values as in a search, joined by commas. Empty stands for all filters of a subscriber.
    Filtered(String),
}

impl Target {
    /// UPS Global Subscription SOP Instance.
    pub const WORKLIST_UID: &str = "1.2.840.10008.5.1.4.34.5";
    /// UPS Filtered Global Subscription SOP Instance.
    pub const FILTERED_UID: &str = "1.2.840.10008.5.1.4.34.5.1";
}

impl Worklist {
    /// Subscribes; the state of a single work item is told at once.
    ///
    /// # Errors
    /// [`WorklistError::Unknown`], or [`WorklistError::BadFilter`].
    pub fn subscribe(
        &self,
        aet: &str,
        target: &Target,
        deletion_lock: bool,
    ) -> Result<(), WorklistError> {
        self.change(|transaction, events| match target {
            Target::Item(uid) => {
                let item = store::get(transaction, uid)?;
                subscribe_to_item(transaction, aet, uid.as_str(), deletion_lock)?;
                events.push(state_report(&item).only_for(aet));
                Ok(())
            }
            Target::Worklist => {
                keep(transaction, aet, "", deletion_lock)?;
                transaction.execute(
                    "INSERT INTO item_subscriptions (aet, uid, deletion_lock) \
                     SELECT ?1, uid, ?2 FROM workitems WHERE true \
                     ON CONFLICT DO UPDATE SET deletion_lock = excluded.deletion_lock",
                    params![aet, deletion_lock],
                )?;
                Ok(())
            }
            Target::Filtered(filter) => {
                let query = WorkitemQuery::of_filter(filter).ok_or(WorklistError::BadFilter)?;
                keep(transaction, aet, filter, deletion_lock)?;
                let mut matching = Vec::new();
                store::visit(transaction, None, |item| {
                    if query.matches(&item.attributes) {
                        matching.push(item.uid.clone());
                    }
                    true
                })?;
                for uid in matching {
                    subscribe_to_item(transaction, aet, uid.as_str(), deletion_lock)?;
                }
                Ok(())
            }
        })
    }

    /// Ends a subscription; ending that to the worklist ends those to its items as well.
    ///
    /// # Errors
    /// [`WorklistError::NoSubscription`].
    pub fn unsubscribe(&self, aet: &str, target: &Target) -> Result<(), WorklistError> {
        self.change(|transaction, _| {
            let ended = match target {
                Target::Item(uid) => transaction.execute(
                    "DELETE FROM item_subscriptions WHERE aet = ?1 AND uid = ?2",
                    [aet, uid.as_str()],
                )?,
                Target::Worklist | Target::Filtered(_) => {
                    forget(transaction, aet, target)?
                        + transaction
                            .execute("DELETE FROM item_subscriptions WHERE aet = ?1", [aet])?
                }
            };
            none_when_zero(aet, ended)
        })
    }

    /// Subscribes to no further work items; those that are there stay subscribed.
    ///
    /// # Errors
    /// [`WorklistError::NoSubscription`].
    pub fn suspend(&self, aet: &str, target: &Target) -> Result<(), WorklistError> {
        self.change(|transaction, _| none_when_zero(aet, forget(transaction, aet, target)?))
    }
}

fn none_when_zero(aet: &str, ended: usize) -> Result<(), WorklistError> {
    match ended {
        0 => Err(WorklistError::NoSubscription { aet: aet.to_owned() }),
        _ => Ok(()),
    }
}

fn forget(connection: &Connection, aet: &str, target: &Target) -> Result<usize, WorklistError> {
    let sql = match target {
        Target::Filtered(filter) if filter.is_empty() => {
            "DELETE FROM worklist_subscriptions WHERE aet = ?1 AND filter != ?2"
        }
        _ => "DELETE FROM worklist_subscriptions WHERE aet = ?1 AND filter = ?2",
    };
    let filter = match target {
        Target::Filtered(filter) => filter.as_str(),
        Target::Item(_) | Target::Worklist => "",
    };
    Ok(connection.execute(sql, [aet, filter])?)
}

fn keep(
    connection: &Connection,
    aet: &str,
    filter: &str,
    deletion_lock: bool,
) -> Result<(), WorklistError> {
    connection.execute(
        "INSERT INTO worklist_subscriptions (aet, filter, deletion_lock) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET deletion_lock = excluded.deletion_lock",
        params![aet, filter, deletion_lock],
    )?;
    Ok(())
}

fn subscribe_to_item(
    connection: &Connection,
    aet: &str,
    uid: &str,
    deletion_lock: bool,
) -> Result<(), WorklistError> {
    connection.execute(
        "INSERT INTO item_subscriptions (aet, uid, deletion_lock) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET deletion_lock = excluded.deletion_lock",
        params![aet, uid, deletion_lock],
    )?;
    Ok(())
}

/// Subscribes everybody to a new work item who subscribed to the worklist.
pub(super) fn note_new_item(connection: &Connection, item: &Workitem) -> Result<(), WorklistError> {
    let mut statement = connection
        .prepare_cached("SELECT aet, filter, deletion_lock FROM worklist_subscriptions")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
    })?;
    for row in rows {
        let (aet, filter, deletion_lock) = row?;
        let matches = filter.is_empty()
            || WorkitemQuery::of_filter(&filter)
                .is_some_and(|query| query.matches(&item.attributes));
        if matches {
            subscribe_to_item(connection, &aet, item.uid.as_str(), deletion_lock)?;
        }
    }
    Ok(())
}

/// Who is told of a work item.
pub(super) fn of_item(
    connection: &Connection,
    uid: &SopInstanceUid,
) -> Result<Vec<String>, WorklistError> {
    let sql = "SELECT aet FROM item_subscriptions WHERE uid = ?1 ORDER BY aet";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([uid.as_str()], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
