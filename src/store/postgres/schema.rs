//! The tables in the database, and whether they are ours.

use tokio_postgres::Client;

use super::failure;
use crate::store::{SCHEMA_VERSION, StoreError};

/// Where one partition ends and the next begins: first bytes of keys. What is only appended (lane
/// rows, events), what is small and hot, and what comes and goes are vacuumed apart.
const BOUNDS: [u8; 8] = [0x10, 0x11, 0x14, 0x20, 0x21, 0x40, 0x60, 0x70];

/// A number that says "a Lockstep store" to whoever looks at the advisory locks of the database.
const LOCK: i64 = 0x4C6F_636B_7374_6570;

/// Makes the tables if there are none, and refuses those of another server or a newer version.
pub(super) async fn prepare(client: &mut Client, server_name: &str) -> Result<(), StoreError> {
    let transaction = client.transaction().await.map_err(failure)?;
    // Two processes that start at once must not both make the tables.
    transaction.execute("select pg_advisory_xact_lock($1)", &[&(LOCK + 1)]).await.map_err(failure)?;
    let there = "select to_regclass('lockstep_identity') is not null, to_regclass('lockstep_kv') is not null";
    let row = transaction.query_one(there, &[]).await.map_err(failure)?;
    match (row.get::<_, bool>(0), row.get::<_, bool>(1)) {
        (true, true) => {}
        (false, false) => {
            transaction.batch_execute(&creation()).await.map_err(failure)?;
            let identity = "insert into lockstep_identity (schema, server) values ($1, $2)";
            let schema = i64::from(SCHEMA_VERSION);
            transaction.execute(identity, &[&schema, &server_name]).await.map_err(failure)?;
        }
        _ => {
            return Err(StoreError::Unusable(
                "the database has some but not all tables of a Lockstep store".to_owned(),
            ));
        }
    }
    let rows =
        transaction.query("select schema, server from lockstep_identity", &[]).await.map_err(failure)?;
    let [row] = rows.as_slice() else {
        return Err(StoreError::Corrupt("the table `lockstep_identity` must have one row".to_owned()));
    };
    let (schema, server): (i64, String) = (row.get(0), row.get(1));
    if schema > i64::from(SCHEMA_VERSION) {
        return Err(StoreError::Unusable(format!(
            "the database was written by a newer version (schema {schema}; this one knows {SCHEMA_VERSION})"
        )));
    }
    if server != server_name {
        return Err(StoreError::Unusable(format!(
            "the database belongs to the server `{server}`, not to `{server_name}`"
        )));
    }
    // What was handed out since the last commit may be anything up to `reserved`.
    let advance = "update lockstep_head set position = greatest(position, reserved)";
    transaction.execute(advance, &[]).await.map_err(failure)?;
    transaction.commit().await.map_err(failure)
}

fn creation() -> String {
    let mut sql = String::from(
        "create table lockstep_identity (schema bigint not null, server text not null);
         create table lockstep_head (
             one boolean primary key default true check (one),
             position bigint not null,
             reserved bigint not null
         ) with (fillfactor = 20);
         insert into lockstep_head (position, reserved) values (0, 0);
         create table lockstep_kv (key bytea primary key, value bytea not null) partition by range (key);",
    );
    let mut from = "minvalue".to_owned();
    for (number, to) in
        BOUNDS.iter().map(|byte| format!("'\\x{byte:02x}'")).chain(["maxvalue".to_owned()]).enumerate()
    {
        sql.push_str(&format!(
            "create table lockstep_kv_{number} partition of lockstep_kv for values from ({from}) to ({to});"
        ));
        from = to;
    }
    sql
}

/// Takes the database for this process, for as long as the connection lives.
pub(super) async fn lock(client: &Client) -> Result<(), StoreError> {
    let row = client.query_one("select pg_try_advisory_lock($1)", &[&LOCK]).await.map_err(failure)?;
    match row.get::<_, bool>(0) {
        true => Ok(()),
        false => Err(StoreError::Unusable("another process is using the database".to_owned())),
    }
}
