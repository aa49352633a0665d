"""Names of values, of which no two in a graph are alike."""


def take_name(name: str, taken: set[str]) -> str:
    """Return `name`, numbered where it is taken ("add", "add.1", "add.2"), and take it."""
    free, count = name, 1
    while free in taken:
        free, count = f"{name}.{count}", count + 1
    taken.add(free)
    return free
