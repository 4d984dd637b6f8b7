//! The zones of the IANA time zone database 2025b that have names, by the rules that hold from now on.
//!
//! Made from the last line of each compiled zone, which is its rule for the years to come; zones of the same rule are
//! together. The database is in the public domain.

use crate::zone::{Change, Summer};

/// Seconds east of UTC, what happens in summer, and the names, with spaces between.
pub const ZONES: &[(i64, Option<Summer>, &str)] = &[
    (-43_200, None, "Etc/GMT+12"),
    (-39_600, None, "Etc/GMT+11 Pacific/Midway Pacific/Niue Pacific/Pago_Pago Pacific/Samoa US/Samoa"),
    (
        -36_000,
        Some(Summer { offset: -32_400, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/Adak America/Atka US/Aleutian",
    ),
    (-36_000, None, "Etc/GMT+10 HST Pacific/Honolulu Pacific/Johnston Pacific/Rarotonga Pacific/Tahiti US/Hawaii"),
    (-34_200, None, "Pacific/Marquesas"),
    (
        -32_400,
        Some(Summer { offset: -28_800, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/Anchorage America/Juneau America/Metlakatla America/Nome America/Sitka America/Yakutat \
         US/Alaska",
    ),
    (-32_400, None, "Etc/GMT+9 Pacific/Gambier"),
    (
        -28_800,
        Some(Summer { offset: -25_200, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/Ensenada America/Los_Angeles America/Santa_Isabel America/Tijuana America/Vancouver \
         Canada/Pacific Mexico/BajaNorte PST8PDT US/Pacific",
    ),
    (-28_800, None, "Etc/GMT+8 Pacific/Pitcairn"),
    (
        -25_200,
        Some(Summer { offset: -21_600, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/Boise America/Cambridge_Bay America/Ciudad_Juarez America/Denver America/Edmonton \
         America/Inuvik America/Shiprock America/Yellowknife Canada/Mountain MST7MDT Navajo US/Mountain",
    ),
    (
        -25_200,
        None,
        "America/Creston America/Dawson America/Dawson_Creek America/Fort_Nelson America/Hermosillo \
         America/Mazatlan America/Phoenix America/Whitehorse Canada/Yukon Etc/GMT+7 MST Mexico/BajaSur \
         US/Arizona",
    ),
    (
        -21_600,
        Some(Summer { offset: -18_000, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/Chicago America/Indiana/Knox America/Indiana/Tell_City America/Knox_IN America/Matamoros \
         America/Menominee America/North_Dakota/Beulah America/North_Dakota/Center \
         America/North_Dakota/New_Salem America/Ojinaga America/Rainy_River America/Rankin_Inlet \
         America/Resolute America/Winnipeg CST6CDT Canada/Central US/Central US/Indiana-Starke",
    ),
    (
        -21_600,
        Some(Summer { offset: -18_000, from: Change(9, 1, 6, 79_200), to: Change(4, 1, 6, 79_200) }),
        "Chile/EasterIsland Pacific/Easter",
    ),
    (
        -21_600,
        None,
        "America/Bahia_Banderas America/Belize America/Chihuahua America/Costa_Rica America/El_Salvador \
         America/Guatemala America/Managua America/Merida America/Mexico_City America/Monterrey \
         America/Regina America/Swift_Current America/Tegucigalpa Canada/Saskatchewan Etc/GMT+6 \
         Mexico/General Pacific/Galapagos",
    ),
    (
        -18_000,
        Some(Summer { offset: -14_400, from: Change(3, 2, 0, 0), to: Change(11, 1, 0, 3600) }),
        "America/Havana Cuba",
    ),
    (
        -18_000,
        Some(Summer { offset: -14_400, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/Detroit America/Fort_Wayne America/Grand_Turk America/Indiana/Indianapolis \
         America/Indiana/Marengo America/Indiana/Petersburg America/Indiana/Vevay America/Indiana/Vincennes \
         America/Indiana/Winamac America/Indianapolis America/Iqaluit America/Kentucky/Louisville \
         America/Kentucky/Monticello America/Louisville America/Montreal America/Nassau America/New_York \
         America/Nipigon America/Pangnirtung America/Port-au-Prince America/Thunder_Bay America/Toronto \
         Canada/Eastern EST5EDT US/East-Indiana US/Eastern US/Michigan",
    ),
    (
        -18_000,
        None,
        "America/Atikokan America/Bogota America/Cancun America/Cayman America/Coral_Harbour America/Eirunepe \
         America/Guayaquil America/Jamaica America/Lima America/Panama America/Porto_Acre America/Rio_Branco \
         Brazil/Acre EST Etc/GMT+5 Jamaica",
    ),
    (
        -14_400,
        Some(Summer { offset: -10_800, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/Glace_Bay America/Goose_Bay America/Halifax America/Moncton America/Thule Atlantic/Bermuda \
         Canada/Atlantic",
    ),
    (
        -14_400,
        Some(Summer { offset: -10_800, from: Change(9, 1, 6, 86_400), to: Change(4, 1, 6, 86_400) }),
        "America/Santiago Chile/Continental",
    ),
    (
        -14_400,
        None,
        "America/Anguilla America/Antigua America/Aruba America/Barbados America/Blanc-Sablon \
         America/Boa_Vista America/Campo_Grande America/Caracas America/Cuiaba America/Curacao \
         America/Dominica America/Grenada America/Guadeloupe America/Guyana America/Kralendijk America/La_Paz \
         America/Lower_Princes America/Manaus America/Marigot America/Martinique America/Montserrat \
         America/Port_of_Spain America/Porto_Velho America/Puerto_Rico America/Santo_Domingo \
         America/St_Barthelemy America/St_Kitts America/St_Lucia America/St_Thomas America/St_Vincent \
         America/Tortola America/Virgin Brazil/West Etc/GMT+4",
    ),
    (
        -12_600,
        Some(Summer { offset: -9000, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/St_Johns Canada/Newfoundland",
    ),
    (
        -10_800,
        Some(Summer { offset: -7200, from: Change(3, 2, 0, 7200), to: Change(11, 1, 0, 7200) }),
        "America/Miquelon",
    ),
    (
        -10_800,
        None,
        "America/Araguaina America/Argentina/Buenos_Aires America/Argentina/Catamarca \
         America/Argentina/ComodRivadavia America/Argentina/Cordoba America/Argentina/Jujuy \
         America/Argentina/La_Rioja America/Argentina/Mendoza America/Argentina/Rio_Gallegos \
         America/Argentina/Salta America/Argentina/San_Juan America/Argentina/San_Luis \
         America/Argentina/Tucuman America/Argentina/Ushuaia America/Asuncion America/Bahia America/Belem \
         America/Buenos_Aires America/Catamarca America/Cayenne America/Cordoba America/Coyhaique \
         America/Fortaleza America/Jujuy America/Maceio America/Mendoza America/Montevideo America/Paramaribo \
         America/Punta_Arenas America/Recife America/Rosario America/Santarem America/Sao_Paulo \
         Antarctica/Palmer Antarctica/Rothera Atlantic/Stanley Brazil/East Etc/GMT+3",
    ),
    (
        -7200,
        Some(Summer { offset: -3600, from: Change(3, 5, 0, -3600), to: Change(10, 5, 0, 0) }),
        "America/Godthab America/Nuuk America/Scoresbysund",
    ),
    (-7200, None, "America/Noronha Atlantic/South_Georgia Brazil/DeNoronha Etc/GMT+2"),
    (-3600, Some(Summer { offset: 0, from: Change(3, 5, 0, 0), to: Change(10, 5, 0, 3600) }), "Atlantic/Azores"),
    (-3600, None, "Atlantic/Cape_Verde Etc/GMT+1"),
    (
        0,
        Some(Summer { offset: 3600, from: Change(3, 5, 0, 3600), to: Change(10, 5, 0, 7200) }),
        "Atlantic/Canary Atlantic/Faeroe Atlantic/Faroe Atlantic/Madeira Europe/Belfast Europe/Guernsey \
         Europe/Isle_of_Man Europe/Jersey Europe/Lisbon Europe/London GB GB-Eire Portugal WET",
    ),
    (0, Some(Summer { offset: 7200, from: Change(3, 5, 0, 3600), to: Change(10, 5, 0, 10_800) }), "Antarctica/Troll"),
    (
        0,
        None,
        "Africa/Abidjan Africa/Accra Africa/Bamako Africa/Banjul Africa/Bissau Africa/Conakry Africa/Dakar \
         Africa/Freetown Africa/Lome Africa/Monrovia Africa/Nouakchott Africa/Ouagadougou Africa/Sao_Tome \
         Africa/Timbuktu America/Danmarkshavn Atlantic/Reykjavik Atlantic/St_Helena Etc/GMT Etc/GMT+0 \
         Etc/GMT-0 Etc/GMT0 Etc/Greenwich Etc/UCT Etc/UTC Etc/Universal Etc/Zulu GMT GMT+0 GMT-0 GMT0 \
         Greenwich Iceland UCT UTC Universal Zulu",
    ),
    (3600, Some(Summer { offset: 0, from: Change(10, 5, 0, 7200), to: Change(3, 5, 0, 3600) }), "Eire Europe/Dublin"),
    (
        3600,
        Some(Summer { offset: 7200, from: Change(3, 5, 0, 7200), to: Change(10, 5, 0, 10_800) }),
        "Africa/Ceuta Arctic/Longyearbyen Atlantic/Jan_Mayen CET Europe/Amsterdam Europe/Andorra \
         Europe/Belgrade Europe/Berlin Europe/Bratislava Europe/Brussels Europe/Budapest Europe/Busingen \
         Europe/Copenhagen Europe/Gibraltar Europe/Ljubljana Europe/Luxembourg Europe/Madrid Europe/Malta \
         Europe/Monaco Europe/Oslo Europe/Paris Europe/Podgorica Europe/Prague Europe/Rome Europe/San_Marino \
         Europe/Sarajevo Europe/Skopje Europe/Stockholm Europe/Tirane Europe/Vaduz Europe/Vatican \
         Europe/Vienna Europe/Warsaw Europe/Zagreb Europe/Zurich MET Poland",
    ),
    (
        3600,
        None,
        "Africa/Algiers Africa/Bangui Africa/Brazzaville Africa/Casablanca Africa/Douala Africa/El_Aaiun \
         Africa/Kinshasa Africa/Lagos Africa/Libreville Africa/Luanda Africa/Malabo Africa/Ndjamena \
         Africa/Niamey Africa/Porto-Novo Africa/Tunis Etc/GMT-1",
    ),
    (
        7200,
        Some(Summer { offset: 10_800, from: Change(3, 4, 4, 180_000), to: Change(10, 4, 4, 180_000) }),
        "Asia/Gaza Asia/Hebron",
    ),
    (
        7200,
        Some(Summer { offset: 10_800, from: Change(3, 4, 4, 93_600), to: Change(10, 5, 0, 7200) }),
        "Asia/Jerusalem Asia/Tel_Aviv Israel",
    ),
    (7200, Some(Summer { offset: 10_800, from: Change(3, 5, 0, 0), to: Change(10, 5, 0, 0) }), "Asia/Beirut"),
    (
        7200,
        Some(Summer { offset: 10_800, from: Change(3, 5, 0, 10_800), to: Change(10, 5, 0, 14_400) }),
        "Asia/Famagusta Asia/Nicosia EET Europe/Athens Europe/Bucharest Europe/Helsinki Europe/Kiev \
         Europe/Kyiv Europe/Mariehamn Europe/Nicosia Europe/Riga Europe/Sofia Europe/Tallinn Europe/Uzhgorod \
         Europe/Vilnius Europe/Zaporozhye",
    ),
    (
        7200,
        Some(Summer { offset: 10_800, from: Change(3, 5, 0, 7200), to: Change(10, 5, 0, 10_800) }),
        "Europe/Chisinau Europe/Tiraspol",
    ),
    (
        7200,
        Some(Summer { offset: 10_800, from: Change(4, 5, 5, 0), to: Change(10, 5, 4, 86_400) }),
        "Africa/Cairo Egypt",
    ),
    (
        7200,
        None,
        "Africa/Blantyre Africa/Bujumbura Africa/Gaborone Africa/Harare Africa/Johannesburg Africa/Juba \
         Africa/Khartoum Africa/Kigali Africa/Lubumbashi Africa/Lusaka Africa/Maputo Africa/Maseru \
         Africa/Mbabane Africa/Tripoli Africa/Windhoek Etc/GMT-2 Europe/Kaliningrad Libya",
    ),
    (
        10_800,
        None,
        "Africa/Addis_Ababa Africa/Asmara Africa/Asmera Africa/Dar_es_Salaam Africa/Djibouti Africa/Kampala \
         Africa/Mogadishu Africa/Nairobi Antarctica/Syowa Asia/Aden Asia/Amman Asia/Baghdad Asia/Bahrain \
         Asia/Damascus Asia/Istanbul Asia/Kuwait Asia/Qatar Asia/Riyadh Etc/GMT-3 Europe/Istanbul \
         Europe/Kirov Europe/Minsk Europe/Moscow Europe/Simferopol Europe/Volgograd Indian/Antananarivo \
         Indian/Comoro Indian/Mayotte Turkey W-SU",
    ),
    (12_600, None, "Asia/Tehran Iran"),
    (
        14_400,
        None,
        "Asia/Baku Asia/Dubai Asia/Muscat Asia/Tbilisi Asia/Yerevan Etc/GMT-4 Europe/Astrakhan Europe/Samara \
         Europe/Saratov Europe/Ulyanovsk Indian/Mahe Indian/Mauritius Indian/Reunion",
    ),
    (16_200, None, "Asia/Kabul"),
    (
        18_000,
        None,
        "Antarctica/Mawson Antarctica/Vostok Asia/Almaty Asia/Aqtau Asia/Aqtobe Asia/Ashgabat Asia/Ashkhabad \
         Asia/Atyrau Asia/Dushanbe Asia/Karachi Asia/Oral Asia/Qostanay Asia/Qyzylorda Asia/Samarkand \
         Asia/Tashkent Asia/Yekaterinburg Etc/GMT-5 Indian/Kerguelen Indian/Maldives",
    ),
    (19_800, None, "Asia/Calcutta Asia/Colombo Asia/Kolkata"),
    (20_700, None, "Asia/Kathmandu Asia/Katmandu"),
    (
        21_600,
        None,
        "Asia/Bishkek Asia/Dacca Asia/Dhaka Asia/Kashgar Asia/Omsk Asia/Thimbu Asia/Thimphu Asia/Urumqi \
         Etc/GMT-6 Indian/Chagos",
    ),
    (23_400, None, "Asia/Rangoon Asia/Yangon Indian/Cocos"),
    (
        25_200,
        None,
        "Antarctica/Davis Asia/Bangkok Asia/Barnaul Asia/Ho_Chi_Minh Asia/Hovd Asia/Jakarta Asia/Krasnoyarsk \
         Asia/Novokuznetsk Asia/Novosibirsk Asia/Phnom_Penh Asia/Pontianak Asia/Saigon Asia/Tomsk \
         Asia/Vientiane Etc/GMT-7 Indian/Christmas",
    ),
    (
        28_800,
        None,
        "Antarctica/Casey Asia/Brunei Asia/Choibalsan Asia/Chongqing Asia/Chungking Asia/Harbin \
         Asia/Hong_Kong Asia/Irkutsk Asia/Kuala_Lumpur Asia/Kuching Asia/Macao Asia/Macau Asia/Makassar \
         Asia/Manila Asia/Shanghai Asia/Singapore Asia/Taipei Asia/Ujung_Pandang Asia/Ulaanbaatar \
         Asia/Ulan_Bator Australia/Perth Australia/West Etc/GMT-8 Hongkong PRC ROC Singapore",
    ),
    (31_500, None, "Australia/Eucla"),
    (
        32_400,
        None,
        "Asia/Chita Asia/Dili Asia/Jayapura Asia/Khandyga Asia/Pyongyang Asia/Seoul Asia/Tokyo Asia/Yakutsk \
         Etc/GMT-9 Japan Pacific/Palau ROK",
    ),
    (
        34_200,
        Some(Summer { offset: 37_800, from: Change(10, 1, 0, 7200), to: Change(4, 1, 0, 10_800) }),
        "Australia/Adelaide Australia/Broken_Hill Australia/South Australia/Yancowinna",
    ),
    (34_200, None, "Australia/Darwin Australia/North"),
    (
        36_000,
        Some(Summer { offset: 39_600, from: Change(10, 1, 0, 7200), to: Change(4, 1, 0, 10_800) }),
        "Antarctica/Macquarie Australia/ACT Australia/Canberra Australia/Currie Australia/Hobart \
         Australia/Melbourne Australia/NSW Australia/Sydney Australia/Tasmania Australia/Victoria",
    ),
    (
        36_000,
        None,
        "Antarctica/DumontDUrville Asia/Ust-Nera Asia/Vladivostok Australia/Brisbane Australia/Lindeman \
         Australia/Queensland Etc/GMT-10 Pacific/Chuuk Pacific/Guam Pacific/Port_Moresby Pacific/Saipan \
         Pacific/Truk Pacific/Yap",
    ),
    (
        37_800,
        Some(Summer { offset: 39_600, from: Change(10, 1, 0, 7200), to: Change(4, 1, 0, 7200) }),
        "Australia/LHI Australia/Lord_Howe",
    ),
    (
        39_600,
        Some(Summer { offset: 43_200, from: Change(10, 1, 0, 7200), to: Change(4, 1, 0, 10_800) }),
        "Pacific/Norfolk",
    ),
    (
        39_600,
        None,
        "Asia/Magadan Asia/Sakhalin Asia/Srednekolymsk Etc/GMT-11 Pacific/Bougainville Pacific/Efate \
         Pacific/Guadalcanal Pacific/Kosrae Pacific/Noumea Pacific/Pohnpei Pacific/Ponape",
    ),
    (
        43_200,
        Some(Summer { offset: 46_800, from: Change(9, 5, 0, 7200), to: Change(4, 1, 0, 10_800) }),
        "Antarctica/McMurdo Antarctica/South_Pole NZ Pacific/Auckland",
    ),
    (
        43_200,
        None,
        "Asia/Anadyr Asia/Kamchatka Etc/GMT-12 Kwajalein Pacific/Fiji Pacific/Funafuti Pacific/Kwajalein \
         Pacific/Majuro Pacific/Nauru Pacific/Tarawa Pacific/Wake Pacific/Wallis",
    ),
    (
        45_900,
        Some(Summer { offset: 49_500, from: Change(9, 5, 0, 9900), to: Change(4, 1, 0, 13_500) }),
        "NZ-CHAT Pacific/Chatham",
    ),
    (46_800, None, "Etc/GMT-13 Pacific/Apia Pacific/Enderbury Pacific/Fakaofo Pacific/Kanton Pacific/Tongatapu"),
    (50_400, None, "Etc/GMT-14 Pacific/Kiritimati"),
];
