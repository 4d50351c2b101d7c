//! The addresses of the API servers that share a store, as upstream keeps them: keys with a short lease.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use store::{KeyRange, Op, OpResponse, PutOp, RangeRequest, Store, Txn};

/// Upstream's prefix.
const PREFIX: &str = "/registry/masterleases/";
/// Seconds that an address outlives its server.
const TTL: i64 = 15;

/// The register of API servers.
pub struct Masters {
    store: Arc<dyn Store>,
}

impl Masters {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Writes our address for some seconds, with the object that upstream keeps there, and gives the addresses of all servers
    /// that live, sorted.
    ///
    /// # Errors
    /// The store's.
    pub async fn renew(&self, own: IpAddr, value: Vec<u8>) -> Result<Vec<IpAddr>, store::Error> {
        let lease = self.store.lease_grant(TTL, 0).await?;
        let key = Bytes::from(format!("{PREFIX}{own}"));
        let put = Op::Put(PutOp { key, value: value.into(), lease: lease.id, ..PutOp::default() });
        let list = Op::Range(RangeRequest::new(KeyRange::prefix(PREFIX)).keys_only());
        let done = self.store.txn(Txn { compares: Vec::new(), success: vec![put, list], failure: Vec::new() }).await?;
        let mut found = Vec::new();
        for response in done.responses {
            let OpResponse::Range(range) = response else { continue };
            let names = range
                .kvs
                .iter()
                .filter_map(|kv| std::str::from_utf8(&kv.key).ok()?.strip_prefix(PREFIX)?.parse::<IpAddr>().ok());
            found.extend(names);
        }
        found.sort();
        Ok(found)
    }

    /// Takes our address away, at the end.
    ///
    /// # Errors
    /// The store's.
    pub async fn leave(&self, own: IpAddr) -> Result<(), store::Error> {
        let delete = Op::delete(format!("{PREFIX}{own}"));
        self.store.txn(Txn { compares: Vec::new(), success: vec![delete], failure: Vec::new() }).await.map(drop)
    }
}
