//! The function's process by its own protocol, with nothing in between: a stream for each entity, as a mesh has it, a command at
//! a time on each. Nothing is kept of what the function says it changed.

use std::sync::Arc;

use futures_util::stream::poll_fn;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::{Mutex, mpsc};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use super::client::{Change, channel};
use crate::measure::{Rate, Threads, one_by_one_async, tasks};

/// `kalix.component.replicatedentity`, as far as it is said here.
const PATH: &str = "/kalix.component.replicatedentity.ReplicatedEntities/Handle";
const SERVICE: &str = "anabranch.test.Counter";
const CHANGE_URL: &str = "type.googleapis.com/anabranch.test.Change";

#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(message, optional, tag = "1")]
    init: Option<Init>,
    #[prost(message, optional, tag = "4")]
    command: Option<Command>,
}

#[derive(Clone, PartialEq, Message)]
struct Init {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    entity: String,
}

#[derive(Clone, PartialEq, Message)]
struct Command {
    #[prost(string, tag = "1")]
    entity: String,
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(message, optional, tag = "4")]
    payload: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Heard {
    #[prost(message, optional, tag = "1")]
    reply: Option<Reply>,
}

#[derive(Clone, PartialEq, Message)]
struct Reply {
    #[prost(int64, tag = "1")]
    command: i64,
}

/// A stream, with the number of its last command.
struct Entity {
    name: String,
    say: mpsc::Sender<Said>,
    hear: Streaming<Heard>,
    last: i64,
}

impl Entity {
    async fn open(channel: Channel, name: String) -> Entity {
        let (say, mut said) = mpsc::channel(2);
        let init = Init {
            service: SERVICE.to_owned(),
            entity: name.clone(),
        };
        // The answer's head may come with its first message: so the first command is made here.
        say.send(Said::init(init)).await.unwrap();
        say.send(Said::change(&name, 1)).await.unwrap();
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.unwrap();
        let outgoing = Request::new(poll_fn(move |context| said.poll_recv(context)));
        let path = PathAndQuery::from_static(PATH);
        let opening = grpc.streaming(outgoing, path, ProstCodec::<Said, Heard>::default());
        let mut entity = Entity {
            name,
            say,
            hear: opening.await.unwrap().into_inner(),
            last: 1,
        };
        entity.answered().await;
        entity
    }

    async fn change(&mut self) {
        self.last += 1;
        self.say.send(Said::change(&self.name, self.last)).await.unwrap();
        self.answered().await;
    }

    async fn answered(&mut self) {
        let heard = self.hear.message().await.unwrap();
        assert_eq!(heard.unwrap().reply.unwrap().command, self.last);
    }
}

impl Said {
    fn init(init: Init) -> Said {
        Said {
            init: Some(init),
            command: None,
        }
    }

    fn change(entity: &str, id: i64) -> Said {
        let entity = entity.to_owned();
        let change = Change {
            id: entity.clone(),
            by: 1,
        };
        let payload = Any {
            type_url: CHANGE_URL.to_owned(),
            value: change.encode_to_vec(),
        };
        let command = Command {
            entity,
            id,
            name: "Change".to_owned(),
            payload: Some(payload),
        };
        Said {
            init: None,
            command: Some(command),
        }
    }
}

/// The median of a change at a time.
pub fn p50(port: u16) -> f64 {
    Threads::One.runtime().block_on(async {
        let mut entity = Entity::open(channel(port).await.unwrap(), "direct".to_owned()).await;
        one_by_one_async(async || entity.change().await).await
    })
}

/// 64 callers, each of one of these entities, which takes one of them at a time.
pub fn rate(port: u16, others: &[u32], entities: usize) -> Rate {
    let runtime = Threads::One.runtime();
    let entities: Vec<_> = runtime.block_on(async {
        let channel = channel(port).await.unwrap();
        let mut all = Vec::new();
        for n in 0..entities {
            let entity = Entity::open(channel.clone(), format!("direct-{n}")).await;
            all.push(Arc::new(Mutex::new(entity)));
        }
        all
    });
    tasks(&runtime, others, |worker| {
        let entity = Arc::clone(&entities[worker % entities.len()]);
        move || {
            let entity = Arc::clone(&entity);
            async move { entity.lock().await.change().await }
        }
    })
}
