//! Formats that are known by name: what settings stand for unless they are given.

use serde::Deserialize;
use weir_plugin::{Kind, Settings};

use crate::{TooFew, TooMany};

/// A format that is known by name.
#[derive(Clone, Copy, Deserialize, Settings)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Columns between commas.
    Csv,
    /// Columns between tabs.
    Tsv,
    /// Columns between `|`.
    Psv,
    /// Columns between semicolons.
    Ssv,
    /// Access logs of AWS's Application Load Balancer.
    AwsAlb,
    /// Access logs of AWS's Classic Load Balancer.
    AwsElb,
    /// TLS access logs of AWS's Network Load Balancer.
    AwsNlb,
    /// Access logs of Amazon S3.
    AwsS3,
    /// Flow logs of a VPC, in the default format.
    AwsVpcFlow,
    /// PostgreSQL's `csvlog`, of version 14 or later, in UTC.
    PostgresCsv,
}

/// What a preset says.
#[derive(Clone, Copy)]
pub struct Defaults {
    pub separator: &'static str,
    /// Names of columns, each with `:` and a letter if it is not text: integer, float.
    columns: &'static str,
    /// The column that has the time, and how it is written.
    pub time: Option<(&'static str, &'static str)>,
    pub too_few: TooFew,
    pub too_many: TooMany,
    pub nil: Option<&'static str>,
    pub comment: Option<&'static str>,
    pub brackets: bool,
}

/// What holds where neither settings nor a preset say otherwise.
pub const PLAIN: Defaults = Defaults {
    separator: ",",
    columns: "",
    time: None,
    too_few: TooFew::Fail,
    too_many: TooMany::Fail,
    nil: None,
    comment: None,
    brackets: false,
};

/// AWS adds columns at the end from time to time.
const AWS: Defaults =
    Defaults { separator: " ", too_few: TooFew::Keep, too_many: TooMany::Extend, nil: Some("-"), ..PLAIN };

impl Preset {
    /// What the preset says.
    pub fn defaults(self) -> Defaults {
        match self {
            Preset::Csv => PLAIN,
            Preset::Tsv => Defaults { separator: "\t", ..PLAIN },
            Preset::Psv => Defaults { separator: "|", ..PLAIN },
            Preset::Ssv => Defaults { separator: ";", ..PLAIN },
            Preset::AwsAlb => Defaults {
                columns: "type time elb client target request_processing_time:f target_processing_time:f \
                    response_processing_time:f elb_status_code:i target_status_code:i received_bytes:i sent_bytes:i request \
                    user_agent ssl_cipher ssl_protocol target_group_arn trace_id domain_name chosen_cert_arn \
                    matched_rule_priority:i request_creation_time actions_executed redirect_url error_reason target_list \
                    target_status_code_list classification classification_reason conn_trace_id",
                time: Some(("time", "rfc3339")),
                ..AWS
            },
            Preset::AwsElb => Defaults {
                columns: "time elb client backend request_processing_time:f backend_processing_time:f \
                    response_processing_time:f elb_status_code:i backend_status_code:i received_bytes:i sent_bytes:i request \
                    user_agent ssl_cipher ssl_protocol",
                time: Some(("time", "rfc3339")),
                ..AWS
            },
            Preset::AwsNlb => Defaults {
                columns: "type version time elb listener client destination connection_time:i tls_handshake_time:i \
                    received_bytes:i sent_bytes:i incoming_tls_alert chosen_cert_arn chosen_cert_serial tls_cipher \
                    tls_protocol_version tls_named_group domain_name alpn_fe_protocol alpn_be_protocol \
                    alpn_client_preference_list tls_connection_creation_time",
                time: Some(("time", "rfc3339")),
                ..AWS
            },
            Preset::AwsS3 => Defaults {
                columns: "bucket_owner bucket time remote_ip requester request_id operation key request status:i error_code \
                    bytes_sent:i object_size:i total_time:i turn_around_time:i referer user_agent version_id host_id \
                    signature_version cipher_suite authentication_type host_header tls_version access_point_arn acl_required",
                time: Some(("time", "clf")),
                brackets: true,
                ..AWS
            },
            Preset::AwsVpcFlow => Defaults {
                columns: "version:i account_id interface_id srcaddr dstaddr srcport:i dstport:i protocol:i packets:i bytes:i \
                    start:i end:i action log_status",
                time: Some(("start", "unix")),
                comment: Some("version "),
                ..AWS
            },
            Preset::PostgresCsv => Defaults {
                columns: "log_time user_name database_name process_id:i connection_from session_id session_line_num:i \
                    command_tag session_start_time virtual_transaction_id transaction_id error_severity sql_state_code \
                    message detail hint internal_query internal_query_pos:i context query query_pos:i location \
                    application_name backend_type leader_pid:i query_id",
                time: Some(("log_time", "%Y-%m-%d %H:%M:%S.%f UTC")),
                too_many: TooMany::Extend,
                nil: Some(""),
                ..PLAIN
            },
        }
    }
}

impl Defaults {
    /// Names and kinds of the columns, in order; none if the preset does not say.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        self.columns.split_ascii_whitespace().map(|column| {
            match (column.strip_suffix(":i"), column.strip_suffix(":f")) {
                (Some(name), _) => (name, Kind::Integer),
                (_, Some(name)) => (name, Kind::Float),
                _ => (column, Kind::Text),
            }
        })
    }
}
