//! Black-box tests: each starts the real binary in a directory of its own and looks at what comes out.
//!
//! `make plugins` first: they run what is in `target/plugins` (or `WEIR_TEST_PLUGINS`).
//!
//! Rooms: [`harness`] the directory, the agent in it, waiting and reading · [`golden`] plugins, byte for byte ·
//! [`evil`] a hostile plugin beside a good one · [`refused`] what never runs: bad files, settings, configs ·
//! [`follow`] files that grow, rotate, shrink and are strange · [`order`] generations of a log, deleted files ·
//! [`logrotate`] the real one, under load · [`hostile`] a tenant's volume · [`formats`] encodings, gzip, long lines,
//! old files · [`containers`] CRI and Docker · [`multiline`] events of several lines · [`restart`] being stopped and
//! started · [`kills`] `kill -9` under load · [`checkpoints`] positions, seen and damaged · [`disk`] no space left ·
//! [`confine`] what the process cannot do · [`bombs`] components that take for ever to compile ·
//! [`deploy`] manifests and the image, run without an engine · [`pod`] what a container's manifest says: variables, and
//! when to end · [`live`] what changes while an agent runs · [`tables`] files that plugins may read ·
//! [`admin`] the admin server of a running agent · [`dry_run`] what a plugin would make of lines · [`operate`] commands that ask a running agent ·
//! [`uploads`] plugins that are pushed to it · [`commands`] everything else but `run` · [`cost`] memory, CPU, time and system calls ·
//! [`shares`] of CPU time · [`budget`] of memory · [`servers`] to send to, stand-ins and real ones · [`proxy`] what
//! breaks on the way there · [`faults`] what breaks, and each destination · [`outage`] one that is gone for a minute ·
//! [`delivery`] all else about sinks on the
//! network · `sink_…` a destination each · [`dead_letters`] what destinations have refused.

mod admin;
mod bombs;
mod budget;
mod checkpoints;
mod commands;
mod confine;
mod containers;
mod cost;
mod crowd;
mod dead_letters;
mod delivery;
mod deploy;
mod disk;
mod dry_run;
mod evil;
mod faults;
mod follow;
mod formats;
mod golden;
mod harness;
mod health;
mod hostile;
mod kills;
mod live;
mod logrotate;
mod multiline;
mod operate;
mod order;
mod outage;
mod pod;
mod proxy;
mod refused;
mod restart;
mod servers;
mod shares;
mod sink_clickhouse;
mod sink_elasticsearch;
mod sink_file;
mod sink_kafka;
mod sink_loki;
mod sink_otlp;
mod sink_sls;
mod tables;
mod uploads;
