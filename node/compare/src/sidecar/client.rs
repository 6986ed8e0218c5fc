//! The one client of all sides: tonic on one connection, with the messages that both protocols' services have.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::processes::HOST;
use crate::measure::{IN_FLIGHT, Rate, Threads, one_by_one_async, tasks};

/// Between two attempts at whom is not there yet.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone, PartialEq, Message)]
pub struct Change {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(int64, tag = "2")]
    pub by: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Key {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(int64, tag = "1")]
    value: i64,
}

#[derive(Clone, PartialEq, Message)]
struct AddItem {
    #[prost(string, tag = "1")]
    cart: String,
    #[prost(string, tag = "2")]
    product: String,
    #[prost(int64, tag = "3")]
    quantity: i64,
}

/// What is not looked at.
#[derive(Clone, PartialEq, Message)]
struct Unread {}

/// A connection to the ingress, or to a plain service.
#[derive(Clone)]
pub struct Client(Grpc<Channel>);

pub async fn channel(port: u16) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{HOST}:{port}"))?;
    endpoint.tcp_nodelay(true).connect().await
}

impl Client {
    pub async fn connect(port: u16) -> Client {
        Client(Grpc::new(channel(port).await.unwrap()))
    }

    /// A counter changed by one, at whom may not be there yet.
    pub async fn until_answered(port: u16, id: &str) -> Client {
        loop {
            if let Ok(channel) = channel(port).await {
                let mut client = Client(Grpc::new(channel));
                if client.try_change(id).await.is_ok() {
                    return client;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn call<Q, A>(&mut self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let answer = self
            .0
            .unary(Request::new(question), path, ProstCodec::<Q, A>::default());
        Ok(answer.await?.into_inner())
    }

    async fn try_change(&mut self, id: &str) -> Result<i64, Status> {
        let change = Change {
            id: id.to_owned(),
            by: 1,
        };
        let number: Number = self.call("/anabranch.test.Counter/Change", change).await?;
        Ok(number.value)
    }

    /// A counter changed by one: what it is then.
    pub async fn change(&mut self, id: &str) -> i64 {
        self.try_change(id).await.unwrap()
    }

    pub async fn value(&mut self, id: &str) -> i64 {
        let id = id.to_owned();
        let number: Number = self
            .call("/anabranch.test.Counter/Get", Key { id })
            .await
            .unwrap();
        number.value
    }

    /// A product more in a cart.
    pub async fn add(&mut self, cart: &str) {
        let item = AddItem {
            cart: cart.to_owned(),
            product: "shoe".to_owned(),
            quantity: 1,
        };
        let _: Unread = self.call("/anabranch.test.Cart/Add", item).await.unwrap();
    }
}

/// Waits until whoever is there answers. The connection ends here: a node that stops waits for those that are left.
pub fn until_answered(port: u16) {
    let runtime = Threads::One.runtime();
    runtime.block_on(Client::until_answered(port, "first"));
}

/// The median of a change at a time.
pub fn p50(port: u16) -> f64 {
    Threads::One.runtime().block_on(async {
        let mut client = Client::connect(port).await;
        one_by_one_async(async || {
            client.change("p50").await;
        })
        .await
    })
}

/// 64 changes in flight, of these entities in turn by worker.
pub fn rate(port: u16, others: &[u32], name: impl Fn(usize) -> String) -> Rate {
    let runtime = Threads::One.runtime();
    let client = runtime.block_on(Client::connect(port));
    tasks(&runtime, others, |worker| {
        let (client, id) = (client.clone(), Arc::new(name(worker)));
        move || {
            let (mut client, id) = (client.clone(), Arc::clone(&id));
            async move {
                client.change(&id).await;
            }
        }
    })
}

/// How many of so many changes of one entity are lost, with 64 in flight.
pub fn lost(port: u16, each: usize) -> i64 {
    let runtime = Threads::One.runtime();
    runtime.block_on(async {
        let mut client = Client::connect(port).await;
        let before = client.value("lost").await;
        let changing = |mut client: Client| async move {
            for _ in 0..each {
                client.change("lost").await;
            }
        };
        let workers: Vec<_> = (0..IN_FLIGHT)
            .map(|_| tokio::spawn(changing(client.clone())))
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        let made = i64::try_from(IN_FLIGHT * each).unwrap();
        before + made - client.value("lost").await
    })
}
