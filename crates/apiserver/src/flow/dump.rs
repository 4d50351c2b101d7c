//! `/debug/api_priority_and_fairness/*`: tables for people, in upstream's columns.

use http::{Response, StatusCode};
use meta::Status;
use wire::Body;

use super::FlowControl;
use super::pool::{Arrival, Levels};
use crate::chain::Call;
use crate::respond::bytes_response;

const PREFIX: &str = "/debug/api_priority_and_fairness/";

/// Answers a path below the prefix.
///
/// # Errors
/// 404: no such dump.
pub(crate) fn answer(call: &Call, path: &str) -> Result<Response<Body>, Status> {
    let (Some(flow), Some(what)) = (&call.state.flow, path.strip_prefix(PREFIX)) else {
        return Ok(crate::route::page_not_found());
    };
    let rows = match what {
        "dump_priority_levels" => levels(flow),
        "dump_queues" => queues(flow),
        "dump_requests" => requests(flow, !call.query.get("includeRequestDetails").is_empty()),
        _ => return Ok(crate::route::page_not_found()),
    };
    Ok(bytes_response(StatusCode::OK, "text/plain; charset=utf-8", table(&rows)))
}

/// Columns padded as Go's tabwriter does: at least eight wide.
fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            let wide = (cell.chars().count() + 2).max(8);
            match widths.get_mut(i) {
                Some(width) => *width = wide.max(*width),
                None => widths.push(wide),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            if i + 1 < row.len() {
                text.push_str(&format!("{:<width$}", format!("{cell},"), width = widths[i]));
            } else {
                text.push_str(cell);
            }
        }
        text.push('\n');
    }
    text
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn levels(flow: &FlowControl) -> Vec<Vec<String>> {
    let mut rows = vec![header(&[
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ])];
    for (name, level) in &flow.pool.levels.lock().by_name {
        let active = level.queues.iter().filter(|q| !q.waiting.is_empty()).count();
        let counts = level.counts;
        rows.push(vec![
            name.clone(),
            active.to_string(),
            level.idle().to_string(),
            level.quiescing.to_string(),
            level.waiting.to_string(),
            level.running.len().to_string(),
            counts.dispatched.to_string(),
            counts.rejected.to_string(),
            counts.timed_out.to_string(),
            counts.cancelled.to_string(),
        ]);
    }
    rows
}

fn queues(flow: &FlowControl) -> Vec<Vec<String>> {
    let mut rows = vec![header(&[
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
        "MaxSeatsSum",
        "TotalWorkSum",
    ])];
    for (name, level) in &flow.pool.levels.lock().by_name {
        for (i, queue) in level.queues.iter().enumerate() {
            let sum: u32 = queue.waiting.iter().map(|w| w.arrival.seats).sum();
            rows.push(vec![
                name.clone(),
                i.to_string(),
                queue.waiting.len().to_string(),
                queue.executing.to_string(),
                queue.seats.to_string(),
                format!("{:.8}ss", queue.start),
                sum.to_string(),
                sum.to_string(),
                format!("{:.8}ss", f64::from(sum)),
            ]);
        }
    }
    rows
}

fn requests(flow: &FlowControl, details: bool) -> Vec<Vec<String>> {
    let mut names = vec![
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "FlowDistingsher",
        "ArriveTime",
        "InitialSeats",
        "FinalSeats",
        "AdditionalLatency",
        "StartTime",
    ];
    if details {
        names.extend(["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"]);
    }
    let mut rows = vec![header(&names)];
    let levels: &Levels = &flow.pool.levels.lock();
    for (name, level) in &levels.by_name {
        let mut row = |queue: i64, index: i64, arrival: &Arrival, arrived: String, started: String| {
            let mut cells = vec![
                name.clone(),
                arrival.schema.clone(),
                queue.to_string(),
                index.to_string(),
                arrival.distinguisher.clone(),
                arrived,
                arrival.seats.to_string(),
                "0".to_owned(),
                "0s".to_owned(),
                started,
            ];
            if details {
                let of = &arrival.details;
                let version =
                    if of.group.is_empty() { of.version.clone() } else { format!("{}/{}", of.group, of.version) };
                cells.extend([of.user.clone(), of.verb.to_owned(), of.path.clone(), of.namespace.clone()]);
                cells.extend([of.name.clone(), version, of.resource.clone(), of.subresource.clone()]);
            }
            rows.push(cells);
        };
        for (i, queue) in level.queues.iter().enumerate() {
            for (at, waiting) in queue.waiting.iter().enumerate() {
                let never = "0001-01-01T00:00:00Z".to_owned();
                row(i as i64, at as i64, &waiting.arrival, waiting.arrived.to_string(), never);
            }
        }
        for running in level.running.values() {
            let queue = running.queue.map_or(-1, |i| i as i64);
            row(queue, -1, &running.arrival, running.arrived.to_string(), running.started.to_string());
        }
    }
    rows
}
