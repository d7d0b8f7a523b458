"""One module a measure: `measure(bench)` gives back raw numbers as a JSON value, nothing judged."""
