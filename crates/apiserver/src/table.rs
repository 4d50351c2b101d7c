//! Server-side tables.

use meta::Object;
use registry::Column;
use serde_json::{Map, Value, json};

use crate::respond::{Form, partial_metadata};

/// A `Table` of objects (in the request's version). `columns` is false for later events of a watch.
pub(crate) fn table(form: &Form<'_>, objects: &[Object], list_meta: Map<String, Value>, columns: bool) -> Object {
    let strategy = &form.row.strategy;
    let mut definitions = strategy.columns();
    let plain = definitions.is_empty();
    if plain {
        definitions = vec![
            Column::name(),
            Column::new("Created At", "date").describe(
                "CreationTimestamp is a timestamp representing the server time when this object was created.",
            ),
        ];
    }
    let now = rt::time::unix_seconds();
    let version = form.negotiated.shape_api_version();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells = if plain {
                vec![object.name().into(), object.meta_str("creationTimestamp").into()]
            } else {
                strategy.cells(&hub(form, object), now)
            };
            let mut row = json!({ "cells": cells });
            row["object"] = match form.include_object {
                "None" => Value::Null,
                "Object" => object.clone().into(),
                _ => partial_metadata(object, &version).into(),
            };
            row
        })
        .collect();
    let shown: Vec<Value> = if columns { definitions.iter().map(definition).collect() } else { Vec::new() };
    let mut table = Object::default();
    table.body.insert("kind".into(), "Table".into());
    table.body.insert("apiVersion".into(), version.into());
    table.body.insert("metadata".into(), Value::Object(list_meta));
    let shown = if columns { Value::Array(shown) } else { Value::Null };
    table.body.insert("columnDefinitions".into(), shown);
    table.body.insert("rows".into(), Value::Array(rows));
    table
}

fn hub(form: &Form<'_>, object: &Object) -> Object {
    let mut object = object.clone();
    // A conversion that works for reading works here; on failure the cells show what they can.
    let _ = form.row.convert_to(&mut object, &form.row.hub);
    object
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}
