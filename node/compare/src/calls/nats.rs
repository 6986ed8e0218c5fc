//! NATS: a request that goes to whoever has subscribed, and a reply, both through the server.

use std::thread::JoinHandle;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt;

use super::Far;
use crate::measure::{Rate, Threads, one_by_one_async, tasks};
use crate::ours::SAID;

async fn connect(server: &str) -> Client {
    ConnectOptions::new().connect(server).await.unwrap()
}

/// Sends back what comes to a subject of its own.
pub fn far(threads: Threads, server: &str) -> JoinHandle<()> {
    let server = server.to_owned();
    let subject = format!("echo-{}", std::process::id());
    std::thread::spawn(move || {
        threads.runtime().block_on(async {
            let client = connect(&server).await;
            let mut requests = client.subscribe(subject.clone()).await.unwrap();
            let own = client.clone();
            // The server takes a connection's words in order: once its own request is answered, others' are.
            tokio::spawn(async move {
                call(&own, &subject, Bytes::new()).await;
                println!("{subject}");
            });
            while let Some(request) = requests.next().await {
                let reply = client.publish(request.reply.unwrap(), request.payload);
                reply.await.unwrap();
            }
        });
    })
}

async fn call(client: &Client, subject: &str, said: Bytes) {
    let reply = client.request(subject.to_owned(), said.clone()).await.unwrap();
    assert_eq!(reply.payload, said);
}

/// One at a time.
pub fn p50(server: &str, far: &Far) -> f64 {
    Threads::One.runtime().block_on(async {
        let client = connect(server).await;
        let said = Bytes::copy_from_slice(SAID.as_flattened());
        one_by_one_async(async || call(&client, &far.address, said.clone()).await).await
    })
}

/// 64 at once on one connection.
pub fn rate(threads: Threads, server: &str, process: u32, far: &Far) -> Rate {
    let runtime = threads.runtime();
    let client = runtime.block_on(connect(server));
    tasks(&runtime, &[far.id(), process], |_| {
        let (client, subject) = (client.clone(), far.address.clone());
        let said = Bytes::copy_from_slice(SAID.as_flattened());
        move || {
            let (client, subject, said) = (client.clone(), subject.clone(), said.clone());
            async move { call(&client, &subject, said).await }
        }
    })
}
