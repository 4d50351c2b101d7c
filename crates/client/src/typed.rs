//! Requests on typed kinds. Answers come as protobuf, straight from the server's stored bytes to the typed form, wherever
//! the server has that.

use api::Kind;
use bytes::Bytes;
use http::Method;
use meta::Object;
use serde_json::Value;

use crate::call::{Answer, Client, DeleteOptions, PatchKind, Resource, TYPED};
use crate::error::Error;
use crate::list::{List, ListParams};
use crate::watch::{Decoder, WatchParams, WatchStream};

fn scope(namespace: &str) -> Option<&str> {
    Some(namespace).filter(|ns| !ns.is_empty())
}

fn typed<T: Kind>(answer: &Answer) -> Result<T, Error> {
    let decoded = if answer.protobuf { T::decode(&answer.bytes, 0) } else { api::from_json(&answer.bytes) };
    decoded.map_err(|e| Error::Decode(e.source))
}

fn tree<T: Kind>(object: &T) -> Result<Object, Error> {
    api::to_object(object).map_err(|e| Error::Decode(e.source))
}

/// In all of these, an empty namespace means all namespaces, or a cluster-scoped object; every call can
/// fail as [`Error`] says.
#[allow(clippy::missing_errors_doc, reason = "said once for all, above")]
impl Client {
    /// Reads an object.
    pub async fn get<T: Kind>(&self, namespace: &str, name: &str) -> Result<T, Error> {
        let of = T::gvr();
        let path = Resource { gvr: &of, namespace: scope(namespace) }.path(name, "");
        typed(&self.send(Method::GET, &path, None, TYPED, Bytes::new()).await?)
    }

    /// Lists objects.
    pub async fn list<T: Kind>(&self, namespace: &str, params: &ListParams) -> Result<List<T>, Error> {
        let path = format!("{}{}", T::gvr().path(scope(namespace)), params.query());
        List::typed(&self.send(Method::GET, &path, None, TYPED, Bytes::new()).await?)
    }

    /// Lists those objects that can be read, and tells what is wrong with the others.
    pub async fn list_readable<T: Kind>(
        &self,
        namespace: &str,
        params: &ListParams,
    ) -> Result<(List<T>, Vec<Error>), Error> {
        let path = format!("{}{}", T::gvr().path(scope(namespace)), params.query());
        List::readable(&self.send(Method::GET, &path, None, TYPED, Bytes::new()).await?)
    }

    /// Creates an object in the namespace it names.
    pub async fn create<T: Kind>(&self, object: &T) -> Result<T, Error> {
        let of = T::gvr();
        let path = Resource { gvr: &of, namespace: scope(object.namespace()) }.path("", "");
        typed(&self.send_tree(Method::POST, &path, &tree(object)?).await?)
    }

    /// Replaces an object.
    pub async fn update<T: Kind>(&self, object: &T) -> Result<T, Error> {
        self.update_part(object, "").await
    }

    /// Replaces an object's status.
    pub async fn update_status<T: Kind>(&self, object: &T) -> Result<T, Error> {
        self.update_part(object, "status").await
    }

    async fn update_part<T: Kind>(&self, object: &T, subresource: &str) -> Result<T, Error> {
        let of = T::gvr();
        let path = Resource { gvr: &of, namespace: scope(object.namespace()) }.path(object.name(), subresource);
        typed(&self.send_tree(Method::PUT, &path, &tree(object)?).await?)
    }

    /// Patches an object.
    pub async fn patch<T: Kind>(
        &self,
        namespace: &str,
        name: &str,
        kind: &PatchKind,
        patch: &Value,
    ) -> Result<T, Error> {
        self.patch_part(namespace, name, "", kind, patch).await
    }

    /// Patches an object's status.
    pub async fn patch_status<T: Kind>(
        &self,
        namespace: &str,
        name: &str,
        kind: &PatchKind,
        patch: &Value,
    ) -> Result<T, Error> {
        self.patch_part(namespace, name, "status", kind, patch).await
    }

    async fn patch_part<T: Kind>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        kind: &PatchKind,
        patch: &Value,
    ) -> Result<T, Error> {
        let of = T::gvr();
        let path = Resource { gvr: &of, namespace: scope(namespace) }.path(name, subresource);
        typed(&self.send_patch(path, kind, patch, TYPED).await?)
    }

    /// Deletes an object.
    pub async fn delete<T: Kind>(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Result<(), Error> {
        let of = T::gvr();
        let of = Resource { gvr: &of, namespace: scope(namespace) };
        self.delete_object(&of, name, options).await.map(drop)
    }

    /// Watches objects.
    pub async fn watch<T: Kind>(&self, namespace: &str, params: &WatchParams) -> Result<WatchStream<T>, Error> {
        let of = T::gvr();
        self.watch_as(&Resource { gvr: &of, namespace: scope(namespace) }, params, TYPED, Decoder::of_kind()).await
    }
}
