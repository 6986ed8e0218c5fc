//! PostgreSQL: a table of numbers, raised by a prepared statement.

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

use crate::measure::{IN_FLIGHT, Rate, Threads, Way, one_by_one_async, tasks, way};

/// One server and our table in it.
pub struct Postgres {
    address: String,
}

struct Connection {
    client: Client,
    raise: Statement,
}

impl Postgres {
    /// A connection string of PostgreSQL's; makes the table.
    pub fn at(address: &str) -> Postgres {
        let postgres = Postgres {
            address: address.to_owned(),
        };
        let runtime = Threads::One.runtime();
        runtime.block_on(async {
            let client = postgres.connect().await;
            // Room in each page, so that a row can be changed where it is.
            let table = format!(
                "CREATE TABLE hits (id bigint PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
                 INSERT INTO hits SELECT id, 0 FROM generate_series(0, {IN_FLIGHT} - 1) id;
                 VACUUM ANALYZE hits"
            );
            for statement in table.split(';') {
                client.batch_execute(statement).await.unwrap();
            }
            let setting = client.query_one("SHOW synchronous_commit", &[]).await.unwrap();
            assert_eq!(setting.get::<_, &str>(0), "on");
        });
        postgres
    }

    async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.address, NoTls).await.unwrap();
        tokio::spawn(async move { connection.await.unwrap() });
        client
    }

    async fn prepare(&self) -> Connection {
        let client = self.connect().await;
        let raise = client.prepare("UPDATE hits SET n = n + 1 WHERE id = $1 RETURNING n");
        let raise = raise.await.unwrap();
        Connection { client, raise }
    }

    /// The median of one at a time.
    pub fn p50(&self) -> f64 {
        Threads::One.runtime().block_on(async {
            let connection = self.prepare().await;
            one_by_one_async(async || connection.raise(0).await).await
        })
    }

    /// 64 connections, each with one under way; `row` is whose.
    pub fn ways<'a>(&'a self, row: impl Fn(usize) -> i64 + Copy + 'a) -> Vec<Way<'a>> {
        let ways = Threads::BOTH.into_iter();
        ways.map(|threads| {
            let name = format!("64 connections, {}", threads.name());
            way(name, move || self.rate(&threads.runtime(), row))
        })
        .collect()
    }

    fn rate(&self, runtime: &Runtime, row: impl Fn(usize) -> i64) -> Rate {
        let connect = async {
            let mut connections = Vec::new();
            for _ in 0..IN_FLIGHT {
                connections.push(std::sync::Arc::new(self.prepare().await));
            }
            connections
        };
        let connections = runtime.block_on(connect);
        tasks(runtime, &[], |worker| {
            let (connection, row) = (connections[worker].clone(), row(worker));
            move || {
                let connection = connection.clone();
                async move { connection.raise(row).await }
            }
        })
    }
}

impl Connection {
    async fn raise(&self, row: i64) {
        let raised = self.client.query_one(&self.raise, &[&row]).await.unwrap();
        assert!(raised.get::<_, i64>(0) > 0);
    }
}
