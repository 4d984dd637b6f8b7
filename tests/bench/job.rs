//! What is measured.

use std::fmt::{self, Display};

use crate::corpus::Kind;

/// The fields of nginx's format `main`, in order.
pub const NGINX_FIELDS: [&str; 11] = [
    "remote_addr",
    "remote_user",
    "time_local",
    "request_method",
    "request_uri",
    "server_protocol",
    "status",
    "body_bytes_sent",
    "http_referer",
    "http_user_agent",
    "http_x_forwarded_for",
];

/// A way from a file to a sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Job {
    /// nginx lines, not parsed, to nowhere
    #[value(name = "J1")]
    Tail,
    /// nginx lines, parsed into 11 fields, to an NDJSON file
    #[value(name = "J2")]
    Nginx,
    /// As J2, to nowhere
    #[value(name = "J2n")]
    NginxToNowhere,
    /// As J2, by a regular expression
    #[value(name = "J2r")]
    Regex,
    /// JSON lines, parsed, to an NDJSON file
    #[value(name = "J3")]
    Json,
    /// Stack traces joined to their events, to an NDJSON file
    #[value(name = "J4")]
    Join,
    /// nginx lines in what containerd writes, unwrapped, to nowhere
    #[value(name = "J5")]
    Cri,
    /// As J2, to each sink on the network
    #[value(name = "J6")]
    Network,
}

impl Job {
    pub fn corpus(self) -> Kind {
        match self {
            Job::Tail | Job::Nginx | Job::NginxToNowhere | Job::Regex | Job::Network => Kind::Nginx,
            Job::Json => Kind::Json,
            Job::Join => Kind::Java,
            Job::Cri => Kind::Cri,
        }
    }

    /// Whether there is a file to check.
    pub fn has_output(self) -> bool {
        !matches!(self, Job::Tail | Job::NginxToNowhere | Job::Cri | Job::Network)
    }

    /// Whether rsyslog does it, too.
    pub fn has_rival(self) -> bool {
        matches!(self, Job::Tail | Job::Nginx | Job::Json | Job::Join)
    }
}

impl Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Job::Tail => "J1",
            Job::Nginx => "J2",
            Job::NginxToNowhere => "J2n",
            Job::Regex => "J2r",
            Job::Json => "J3",
            Job::Join => "J4",
            Job::Cri => "J5",
            Job::Network => "J6",
        })
    }
}
