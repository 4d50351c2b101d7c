//! Server-side apply and strategic merge.
