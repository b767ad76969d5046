"""A model of the online step: lengths of answers, sizes and rates -> **seconds of each phase**."""
