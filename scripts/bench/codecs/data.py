# SPDX-License-Identifier: MIT
"""What is encoded and decoded, as data.lua makes it: same seed, same formulas, lists for lists and dicts for records.

pickle takes functions and classes by their names in a module, so they stand here.
"""

SEED = 20260101
MODULUS, FACTOR = 2147483647, 48271


def generator():
    state = SEED

    def draw(n):
        nonlocal state
        state = state * FACTOR % MODULUS
        return state % n

    return draw


def scaled(count, scale):
    return max(1, int(count * scale))


def letters(draw, n):
    return "".join([chr(97 + draw(26)) for _ in range(n)])


def records(n):
    draw = generator()

    # One object for all equal tags, as in Lua: pickle writes it once.
    pool = ["tag%02d" % i for i in range(100)]

    def record(i):
        return {
            "id": i,
            "name": letters(draw, 10),
            "score": draw(100000) / 8,
            "tags": [pool[draw(100)], pool[draw(100)], pool[draw(100)]],
        }

    return [record(i) for i in range(1, n + 1)]


class Row:
    def __init__(self, content, elements, messages=None, times=1, check=None):
        self.messages = messages or [content]
        self.times = times
        self.elements = elements
        self.check = check or (lambda value, copy: value == copy)
        self.digest = digest(content, 0)


def integers(scale):
    draw, n = generator(), scaled(1e6, scale)
    return Row([draw(1000) for _ in range(n)], n)


def doubles(scale):
    draw, n = generator(), scaled(1e6, scale)
    return Row([draw(MODULUS) / MODULUS * 2000 - 1000 for _ in range(n)], n)


def cold_records(scale):
    n = scaled(1e5, scale)
    return Row(records(n), n)


def records_chunks(scale):
    size = scaled(1000, scale)
    everything = records(100 * size)
    return Row(everything, len(everything), [everything[i * size:(i + 1) * size] for i in range(100)])


def records_again(scale):
    size = scaled(1000, scale)
    same = records(size)
    return Row(same, 100 * size, [same] * 100)


def strings(scale):
    draw, n = generator(), scaled(1e5, scale)
    return Row(["%08d" % i + letters(draw, 12) for i in range(1, n + 1)], n)


def long_string(scale):
    """bytes: what Lua's strings are, and what pickle is fastest with."""
    draw = generator()
    text = bytes([draw(256) for _ in range(65536)]) * scaled(1024, scale)
    return Row(text, len(text))


def tree(scale):
    n = scaled(65536, scale)

    def node(i):
        return [i] + [node(k) for k in (2 * i, 2 * i + 1) if k <= n]

    return Row(node(1), n)


def deep(scale):
    levels, times = 100, scaled(1000, scale)
    value = [levels]
    for level in range(levels - 1, 0, -1):
        value = [level, value]
    return Row(value, levels * times, times=times)


# ---- classes, cycles, functions --------------------------------------------------------------------------------------


def add(balance, years):
    return balance + years


def grow(balance, years):
    return balance * (1 + years)


def shrink(balance, years):
    return balance - years


def square(balance, years):
    return balance * balance + years


RULES = [add, grow, shrink, square]
ACCOUNTS = 4


class Owner:
    def __init__(self, name):
        self.name = name
        self.accounts = []

    def total(self):
        return sum(account.balance for account in self.accounts)


class Account:
    def __init__(self, owner, balance, rule):
        self.owner = owner
        self.balance = balance
        self.rule = rule

    def after(self, years):
        return self.rule(self.balance, years)


def same_owners(owners, others):
    if len(owners) != len(others):
        return False
    for owner, other in zip(owners, others):
        if type(other) is not Owner or other.name != owner.name or other.total() != owner.total():
            return False
        for account, copy in zip(owner.accounts, other.accounts):
            if type(copy) is not Account or copy.owner is not other or copy.balance != account.balance:
                return False
            if copy.after(3) != account.after(3):
                return False
    return True


def graph(scale):
    draw, n = generator(), scaled(20000, scale)
    owners, content = [], []
    for _ in range(n):
        owner = Owner(letters(draw, 10))
        lines = [owner.name]
        for _ in range(ACCOUNTS):
            balance, rule = draw(100000) / 8, draw(len(RULES))
            owner.accounts.append(Account(owner, balance, RULES[rule]))
            lines.append([balance, rule + 1])
        owners.append(owner)
        content.append(lines)
    return Row(content, n * (1 + ACCOUNTS), [owners], check=same_owners)


# ---- the rows --------------------------------------------------------------------------------------------------------


def digest(value, total):
    if isinstance(value, (int, float)):
        return (total * 31 + int(value * 1024 // 1) % MODULUS) % MODULUS
    if isinstance(value, (str, bytes)):
        raw = value.encode() if isinstance(value, str) else value
        return (total * 31 + len(raw) + raw[0] * 65536 + raw[len(raw) // 2] * 256 + raw[-1]) % MODULUS
    for part in value if isinstance(value, list) else [value[key] for key in sorted(value)]:
        total = digest(part, total)
    return total


ROWS = {
    "integers": integers,
    "doubles": doubles,
    "records": cold_records,
    "records-chunks": records_chunks,
    "records-again": records_again,
    "strings": strings,
    "long-string": long_string,
    "tree": tree,
    "deep": deep,
    "graph": graph,
}
