//! A port that somebody else has.
//!
//! Each case has a node of its own: a socket that this process has closed may live on for a moment in a process that
//! another test is just starting.

use std::net::{TcpListener, UdpSocket};

use crate::support::cluster::Cluster;
use crate::support::exit;

#[test]
fn a_taken_port_for_peers_is_named_with_its_line() {
    let cluster = Cluster::prepare("taken-udp-port", 1);
    let node = &cluster.nodes[0];
    let _taken = UdpSocket::bind(&node.quic).unwrap();
    node.run_to_end()
        .failed(exit::ADDRESS_IN_USE, &["node.toml:4: ", &node.quic, "in use"]);
    assert!(!node.data().exists());
}

#[test]
fn a_taken_port_for_the_api_is_named_with_its_line() {
    let cluster = Cluster::prepare("taken-tcp-port", 1);
    let node = &cluster.nodes[0];
    let _taken = TcpListener::bind(&node.http).unwrap();
    node.run_to_end()
        .failed(exit::ADDRESS_IN_USE, &["node.toml:9: ", &node.http, "in use"]);
    assert!(!node.data().exists());
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let cluster = Cluster::prepare("foreign-address", 1);
    let node = &cluster.nodes[0];
    // Of a range that is for documentation: no machine has it.
    node.configure(
        &format!("listen = \"{}\"", node.quic),
        "listen = \"192.0.2.1:7411\"",
    );
    node.run_to_end().failed(exit::IO, &["192.0.2.1:7411"]);
}
