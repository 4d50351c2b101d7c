//! System calls, netlink, cgroups and nf_tables: the one room with `unsafe`.
