//! Redis, by the crate that most use.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Connection, FromRedisValue, IntoConnectionInfo, Pipeline, Script,
};

use crate::cpus::Placement;
use crate::measure::{IN_FLIGHT, Rate, Threads, Way, one_by_one, polled, tasks, threads, way};
use crate::ours::QUANTITY_MAX;

/// One server.
pub struct Redis {
    client: Client,
    process: u32,
}

impl Redis {
    /// HOST:PORT, or the path of a socket.
    pub fn at(address: &str) -> Redis {
        let url = match address.starts_with('/') {
            true => format!("redis+unix://{address}"),
            false => format!("redis://{address}"),
        };
        let info = url.as_str().into_connection_info().unwrap();
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp)).unwrap();
        let mut connection = client.get_connection().unwrap();
        let about: redis::InfoDict = redis::cmd("INFO").arg("server").query(&mut connection).unwrap();
        Redis {
            client,
            process: about.get("process_id").unwrap(),
        }
    }

    pub fn process(&self) -> u32 {
        self.process
    }

    fn connect(&self) -> Connection {
        self.client.get_connection().unwrap()
    }

    async fn connect_multiplexed(&self) -> MultiplexedConnection {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connected = self.client.get_multiplexed_async_connection_with_config(&config);
        connected.await.unwrap()
    }

    /// The median of one command at a time; `command` makes the n-th.
    pub fn p50<T: FromRedisValue>(&self, placement: Placement, command: impl Fn(usize) -> Cmd) -> f64 {
        let mut connection = self.connect();
        let mut n = 0;
        let mut once = || {
            command(n).query::<T>(&mut connection).unwrap();
            n += 1;
        };
        placement.with(&[self.process], || one_by_one(&mut once))
    }

    /// 64 commands in flight: on a connection each; on one connection that many tasks share; in pipelines of 64.
    pub fn ways<'a, T, C>(&'a self, command: C) -> Vec<Way<'a>>
    where
        T: FromRedisValue + Send + 'static,
        C: Fn(usize) -> Cmd + Clone + Send + Sync + 'static,
    {
        let (one, two) = (command.clone(), command.clone());
        vec![
            way("64 connections", move || self.connections::<T, C>(one.clone())),
            way("one connection of 64 tasks", move || {
                self.multiplexed::<T, C>(two.clone())
            }),
            way("a pipeline of 64", move || self.pipelined(command.clone())),
        ]
    }

    fn connections<T: FromRedisValue, C: Fn(usize) -> Cmd + Clone + Send>(&self, command: C) -> Rate {
        threads(&[self.process], |worker| {
            let (mut connection, command, mut n) = (self.connect(), command.clone(), worker);
            move || {
                command(n).query::<T>(&mut connection).unwrap();
                n += IN_FLIGHT;
                1
            }
        })
    }

    fn multiplexed<T, C>(&self, command: C) -> Rate
    where
        T: FromRedisValue + Send + 'static,
        C: Fn(usize) -> Cmd + Clone + Send + Sync + 'static,
    {
        let runtime = Threads::One.runtime();
        let connection = runtime.block_on(self.connect_multiplexed());
        tasks(&runtime, &[self.process], |worker| {
            let (connection, command, mut n) = (connection.clone(), Arc::new(command.clone()), worker);
            move || {
                let (mut connection, command) = (connection.clone(), Arc::clone(&command));
                n += IN_FLIGHT;
                async move {
                    command(n).query_async::<T>(&mut connection).await.unwrap();
                }
            }
        })
    }

    fn pipelined<C: Fn(usize) -> Cmd>(&self, command: C) -> Rate {
        let runtime = Threads::One.runtime();
        let (mut connection, mut n) = (self.connect(), 0);
        polled(&runtime, &[self.process], async |load| {
            while load.goes_on() {
                let mut pipeline = Pipeline::with_capacity(IN_FLIGHT);
                for _ in 0..IN_FLIGHT {
                    pipeline.add_command(command(n)).ignore();
                    n += 1;
                }
                pipeline.exec(&mut connection).unwrap();
                load.add(0, IN_FLIGHT as u64);
            }
        })
    }

    /// Loads the cart's script, as [`cart_by_script`] runs it.
    pub fn load_cart(&self) -> String {
        let script = format!(
            "local quantity = tonumber(ARGV[2])
             if quantity == 0 then return redis.error_reply('there is nothing to add of ' .. ARGV[1]) end
             local wanted = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') + quantity
             if wanted > {QUANTITY_MAX} then return redis.error_reply('too many of ' .. ARGV[1]) end
             return redis.call('HINCRBY', KEYS[1], ARGV[1], quantity)"
        );
        let script = Script::new(&script);
        script.prepare_invoke().load(&mut self.connect()).unwrap()
    }

    /// The median of a cart's addition by WATCH, one at a time: two round trips, each a pipeline.
    pub fn cart_by_watch<'a>(&self, placement: Placement, name: impl Fn(usize) -> (&'a str, &'a str)) -> f64 {
        let mut connection = self.connect();
        let mut n = 0;
        let mut once = || {
            let (cart, product) = name(n);
            n += 1;
            while !add_watching(&mut connection, cart, product) {}
        };
        placement.with(&[self.process], || one_by_one(&mut once))
    }
}

/// Whether nobody came in between.
fn add_watching(connection: &mut Connection, cart: &str, product: &str) -> bool {
    let mut look = redis::pipe();
    look.cmd("WATCH").arg(cart).ignore().hget(cart, product);
    let (there,): (Option<u64>,) = look.query(connection).unwrap();
    assert!(there.unwrap_or(0) < QUANTITY_MAX, "the cart is full");
    let mut change = redis::pipe();
    change.atomic().hincr(cart, product, 1);
    change.query::<Option<(u64,)>>(connection).unwrap().is_some()
}

/// Adds one to a line of a cart by the script with this hash.
pub fn cart_by_script(hash: &str, cart: &str, product: &str) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(hash).arg(1).arg(cart).arg(product).arg(1);
    command
}

/// One more of a number.
pub fn increment(name: &str) -> Cmd {
    Cmd::incr(name, 1)
}
