//! What the templates' open places are filled with: areas, floors, names of devices, and free words. All of it is ours.
//!
//! A name belongs to one domain and is no area, floor or word of a list, so that a command has one meaning.

/// Rooms and places outside.
pub(super) const AREAS: &[&str] = &[
    "kitchen",
    "living room",
    "bedroom",
    "bathroom",
    "hallway",
    "study",
    "nursery",
    "dining room",
    "utility room",
    "guest room",
    "conservatory",
    "workshop",
    "pantry",
    "music room",
    "terrace",
];

/// Storeys.
pub(super) const FLOORS: &[&str] = &[
    "ground floor",
    "first floor",
    "second floor",
    "top floor",
    "basement",
    "attic",
];

/// Domain -> names of its devices.
pub(super) const NAMES: &[(&str, &[&str])] = &[
    ("binary_sensor", BINARY_SENSORS),
    ("button", &["doorbell", "panic", "restart"]),
    ("climate", CLIMATE),
    (
        "cover",
        &["roller blind", "skylight", "car port", "pergola roof"],
    ),
    (
        "fan",
        &["tower fan", "extractor", "ventilator", "pedestal fan"],
    ),
    ("input_boolean", &["guest mode", "holiday mode", "siesta"]),
    ("input_button", &["feed the fish", "refresh"]),
    ("lawn_mower", &["grasshopper", "clipper", "meadow robot"]),
    ("light", LIGHTS),
    ("lock", LOCKS),
    ("media_player", MEDIA_PLAYERS),
    ("person", &["grandma", "Ada", "Tomas", "Mei", "Oskar"]),
    (
        "scene",
        &["film night", "sunrise", "dinner party", "deep focus"],
    ),
    (
        "script",
        &["bedtime", "leaving home", "wake the kids", "spring clean"],
    ),
    (
        "sensor",
        &[
            "rain gauge",
            "power meter",
            "air quality",
            "outdoor humidity",
        ],
    ),
    ("switch", SWITCHES),
    ("todo", &["chores", "packing", "homework", "allotment"]),
    ("vacuum", &["Crumbs", "robot vacuum", "dust devil"]),
    ("valve", &["sprinkler", "water main", "garden tap"]),
    ("weather", &["Lisbon", "Oslo", "Nairobi", "Kyoto"]),
];

const BINARY_SENSORS: &[&str] = &["freezer hatch", "mailbox", "cat flap", "parking space"];
const CLIMATE: &[&str] = &["thermostat", "heat pump", "radiator", "air conditioner"];
const LIGHTS: &[&str] = &[
    "desk lamp",
    "chandelier",
    "bedside",
    "night light",
    "mirror",
    "spotlight",
    "bookshelf",
    "standing lamp",
];
const LOCKS: &[&str] = &["front door", "back door", "side gate", "shed"];
const MEDIA_PLAYERS: &[&str] = &["television", "soundbar", "record player", "projector"];
const SWITCHES: &[&str] = &["coffee maker", "kettle", "dehumidifier", "aquarium pump"];

/// Wildcard list -> words for it.
pub(super) const WILDCARDS: &[(&str, &[&str])] = &[
    (
        "message",
        &[
            "dinner is ready",
            "the taxi has arrived",
            "we leave at noon",
            "the parcel is here",
            "it is time for school",
            "somebody left the stove running",
        ],
    ),
    ("search_query", QUERIES),
    ("shopping_list_item", GOODS),
    ("timer_command", COMMANDS),
    (
        "timer_name",
        &[
            "pasta", "tea", "nap", "pizza", "workout", "bread", "laundry",
        ],
    ),
    ("todo_list_item", TASKS),
    ("zone", &["work", "school", "gym", "library"]),
];

const QUERIES: &[&str] = &[
    "paper lanterns",
    "slow rivers",
    "the tin orchestra",
    "jazz",
    "early birds",
    "songs for rain",
    "harbour stories",
    "piano music",
];
const GOODS: &[&str] = &[
    "milk",
    "oat flakes",
    "six lemons",
    "washing powder",
    "rye bread",
    "batteries",
    "olive oil",
    "cat food",
];
const COMMANDS: &[&str] = &[
    "open the curtains",
    "turn off the oven",
    "switch on the sprinkler",
    "stop the music",
    "lock the front door",
    "dim the chandelier",
];
const TASKS: &[&str] = &[
    "water the tomatoes",
    "call the dentist",
    "renew the passport",
    "sweep the chimney",
    "sharpen the knives",
    "maths exercises",
    "sun hat",
];

/// What a table has under a key; nothing for a key that it lacks.
pub(super) fn words_for(
    table: &'static [(&'static str, &'static [&'static str])],
    key: &str,
) -> &'static [&'static str] {
    table
        .iter()
        .find(|(name, _)| *name == key)
        .map_or(&[], |(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_means_one_thing() {
        let groups = NAMES.iter().map(|(_, names)| *names).chain([AREAS, FLOORS]);
        let all: Vec<&str> = groups.flatten().copied().collect();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_key_finds_its_words() {
        assert_eq!(words_for(NAMES, "lock"), LOCKS);
        assert!(words_for(NAMES, "moat").is_empty());
    }
}
