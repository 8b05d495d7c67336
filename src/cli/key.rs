//! `lockstep key rotate`

use std::{net::TcpStream, os::unix::net::UnixStream, time::Duration};

use super::{Stop, exchange::reachable, print};
use crate::{
    config::{Address, Config},
    server::{Folder, real_ports},
};

/// What to do with the key with which the server signs.
#[derive(Debug, clap::Subcommand)]
pub(super) enum KeyVerb {
    /// Puts a new key in the place of the old one, which stays valid for what was signed with it. The server must
    /// not run.
    Rotate,
}

/// Does what `verb` says.
pub(super) fn obey(config: &Config, verb: &KeyVerb) -> Result<(), Stop> {
    let KeyVerb::Rotate = verb;
    // A server that runs would go on signing with a key that has just expired.
    if config.listen.iter().any(|listen| somebody_listens(&listen.address)) {
        return Err(Stop::failed("the server runs; stop it first"));
    }
    let folder = Folder::of(config);
    let name = &config.server_name;
    if folder.known_signing_key(name).map_err(Stop::failed)?.is_none() {
        return Err(Stop::failed("there is no key yet: the server makes one at its first start"));
    }
    let (old, new) = folder.rotate_key(name, &real_ports()).map_err(Stop::failed)?;
    print(&format!("{} signs with {} from now on; {} has expired\n", name, new.key_id(), old.id))
}

fn somebody_listens(address: &Address) -> bool {
    match address {
        Address::Unix(path) => UnixStream::connect(path).is_ok(),
        Address::Tcp(address) if address.port() == 0 => false,
        Address::Tcp(address) => {
            TcpStream::connect_timeout(&reachable(*address), Duration::from_secs(2)).is_ok()
        }
    }
}
