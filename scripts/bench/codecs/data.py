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


# 26 to the power of five: so many words of five letters there are.
WORDS = 11881376


def five_letters(x):
    return "".join([chr(97 + x // 26**power % 26) for power in range(5)])


def ten_letters(draw):
    first = five_letters(draw(WORDS))
    return first + five_letters(draw(WORDS))


# One object for all equal tags, as in Lua: pickle writes it once a message.
TAGS = ["tag%02d" % i for i in range(100)]


def records(count, size):
    draw = generator()

    def record(i):
        name, score = ten_letters(draw), draw(100000) / 8
        return {"id": i, "name": name, "score": score, "tags": [TAGS[draw(100)] for _ in range(3)]}

    return [[record(chunk * size + i) for i in range(1, size + 1)] for chunk in range(count)]


class Row:
    def __init__(self, messages, elements, times=1, check=None, content=None):
        self.messages = messages
        self.elements = elements
        self.times = times
        self.check = check or (lambda value, copy: value == copy)
        self.content = content or messages


def integers(scale):
    draw, n = generator(), scaled(1e6, scale)
    return Row([[draw(1000) for _ in range(n)]], n)


def doubles(scale):
    draw, n = generator(), scaled(1e6, scale)
    return Row([[draw(MODULUS) / MODULUS * 2000 - 1000 for _ in range(n)]], n)


def one_list_of_records(scale):
    n = scaled(1e5, scale)
    return Row(records(1, n), n)


def records_chunks(scale):
    count, size = 100, scaled(1000, scale)
    return Row(records(count, size), count * size)


def records_again(scale):
    times, size = 100, scaled(1000, scale)
    return Row(records(1, size), times * size, times)


def strings(scale):
    draw, n = generator(), scaled(1e5, scale)
    return Row([["%010d" % i + ten_letters(draw) for i in range(1, n + 1)]], n)


def long_string(scale):
    """bytes: what Lua's strings are, and what pickle is fastest with."""
    draw = generator()
    text = bytes([draw(256) for _ in range(65536)]) * scaled(1024, scale)
    return Row([text], len(text))


def tree(scale):
    n = scaled(65536, scale)

    def node(i):
        return [i] + [node(k) for k in (2 * i, 2 * i + 1) if k <= n]

    return Row([node(1)], n)


def deep(scale):
    levels, times = 100, scaled(1000, scale)
    value = [levels]
    for level in range(levels - 1, 0, -1):
        value = [level, value]
    return Row([value], levels * times, times)


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
        owner = Owner(ten_letters(draw))
        lines = [owner.name]
        for _ in range(ACCOUNTS):
            balance, rule = draw(100000) / 8, draw(len(RULES))
            owner.accounts.append(Account(owner, balance, RULES[rule]))
            lines.append([balance, rule + 1])
        owners.append(owner)
        content.append(lines)
    return Row([owners], n * (1 + ACCOUNTS), check=same_owners, content=content)


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
    "records": one_list_of_records,
    "records-chunks": records_chunks,
    "records-again": records_again,
    "strings": strings,
    "long-string": long_string,
    "tree": tree,
    "deep": deep,
    "graph": graph,
}
