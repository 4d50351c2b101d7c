//! Writes for an owner, noted so that the owner is looked at again only when the caches show them.
//!
//! A write without a clear answer may have been done: then the server is asked what there is. When it cannot be asked either,
//! the caches are believed, and what was done twice is put right in a later pass.

use api::Kind;
use client::{DeleteOptions, Error, ListParams};
use informer::OwnWrites;
use meta::selector::LabelSelector;

use crate::frame::Context;

/// Makes writes for the owner with a key.
#[derive(Clone, Copy)]
pub(crate) struct Writes<'a> {
    pub(crate) context: &'a Context,
    pub(crate) own: &'a OwnWrites,
    pub(crate) key: &'a str,
}

/// Whether the write may have been done all the same.
pub(crate) fn is_unclear(error: &Error) -> bool {
    error.status().is_none_or(|status| status.code >= 500)
}

impl Writes<'_> {
    /// Creates an object. What became of one without a name is asked by [`Writes::ask_for_children`].
    pub(crate) async fn create<T: Kind>(&self, object: &T) -> Result<T, Error> {
        let made = self.context.client.create(object).await;
        self.noted(object, made).await
    }

    pub(crate) async fn update<T: Kind>(&self, object: &T) -> Result<T, Error> {
        let written = self.context.client.update(object).await;
        self.noted(object, written).await
    }

    pub(crate) async fn update_status<T: Kind>(&self, object: &T) -> Result<T, Error> {
        let written = self.context.client.update_status(object).await;
        self.noted(object, written).await
    }

    /// Deletes an object; `NotFound` and `Conflict` (another object has the name now) are for the caller to judge.
    pub(crate) async fn delete<T: Kind>(&self, object: &T, options: &DeleteOptions) -> Result<(), Error> {
        let done = self.context.client.delete::<T>(object.namespace(), object.name(), options).await;
        let deleted = match &done {
            Ok(()) => true,
            Err(error) if error.is_not_found() => true,
            Err(error) if is_unclear(error) => {
                let found = self.ask(object).await;
                found.is_ok_and(|found| found.is_none_or(|found| found.is_deleting()))
            }
            Err(_) => false,
        };
        if deleted {
            self.own.expect(self.key, object, T::is_deleting);
        }
        done
    }

    async fn noted<T: Kind>(&self, object: &T, result: Result<T, Error>) -> Result<T, Error> {
        match &result {
            Ok(written) => self.own.note(self.key, written),
            Err(error) if is_unclear(error) && !object.name().is_empty() => {
                if let Ok(found) = self.named::<T>(object).await {
                    found.iter().for_each(|found| self.own.note(self.key, found));
                }
            }
            Err(_) => {}
        }
        result
    }

    /// The object as it is; `None` when it is gone.
    pub(crate) async fn ask<T: Kind>(&self, object: &T) -> Result<Option<T>, Error> {
        Ok(self.named::<T>(object).await?.filter(|found| found.uid() == object.uid()))
    }

    /// Whatever has the object's name. Asked as caches ask: not every controller's account may read single objects of what it
    /// writes, and that of the process may list all.
    async fn named<T: Kind>(&self, object: &T) -> Result<Option<T>, Error> {
        let field_selector = format!("metadata.name={}", object.name());
        let params = ListParams { field_selector, ..ListParams::default() };
        let found = self.context.factory.client().list::<T>(object.namespace(), &params).await?;
        Ok(found.items.into_iter().next())
    }

    /// After creations with generated names that had no clear answer: notes whatever of the owner's there is.
    pub(crate) async fn ask_for_children<T: Kind>(&self, unclear: &[&T]) {
        let Some(first) = unclear.first() else { return };
        let mut labels = first.labels().clone();
        labels.retain(|name, value| unclear.iter().all(|object| object.label(name) == Some(value)));
        let selector = LabelSelector::from_pairs(labels);
        let params = ListParams { label_selector: selector.to_string(), ..ListParams::default() };
        let Ok(found) = self.context.factory.client().list::<T>(first.namespace(), &params).await else { return };
        let owner = first.controller_ref().map(|reference| &reference.uid);
        let own = found.items.iter().filter(|o| o.controller_ref().map(|reference| &reference.uid) == owner);
        own.for_each(|object| self.own.note(self.key, object));
    }
}
