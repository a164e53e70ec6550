"""Writes the conversations that the demo model is trained and judged on.

The words and phrases are text files, in words/ and phrases/; README.md says how they are written. This file
turns them into conversations. Its order: reading text files, phrases, words, skills (each writes a turn of a
conversation), conversations.

What is called held out is for the evaluation only: phrasings are never trained on, and words, names, topics
and sums not in the skill that they belong to. All draws come from the rng that is passed in, so the same seed
and the same text files give the same conversations.
"""

import random
import re
import zlib
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from string import ascii_lowercase as ALPHABET

from engine import calculate

HERE = Path(__file__).resolve().parent

# ------------------------------------------------------------------------------------------------------------
# Text files


def sections(name: str) -> dict[str, dict[str, str]]:
    """The text under each "== title" of a file, by its parts: "" first, the others begin with "-- name"."""
    text = (HERE / f"{name}.txt").read_text(encoding="utf-8")
    _, *pieces = re.split(r"^== (.+)\n", text, flags=re.MULTILINE)
    found = {}
    for title, body in zip(pieces[::2], pieces[1::2]):
        assert title not in found, f"{name}.txt: two sections are called {title}"
        parts = ["", *re.split(r"^-- (.+)\n", body, flags=re.MULTILINE)]
        found[title] = {part: text.strip("\n") for part, text in zip(parts[::2], parts[1::2])}
    return found


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def table(text: str) -> dict[str, str]:
    """Lines of the form: key = value."""
    return dict(line.split(" = ", 1) for line in lines(text))


def word_lists(name: str) -> dict[str, list[str]]:
    return {title: parts[""].split() for title, parts in sections(name).items()}


def tables(name: str) -> dict[str, dict[str, str]]:
    return {title: table(parts[""]) for title, parts in sections(name).items()}


WORDS = word_lists("words/words")
LISTS = word_lists("words/lists")
FACTS = tables("words/facts")
PHRASEBOOK = tables("words/phrasebook")
TABLES = tables("words/tables")
FLAGS = [(flag, table(parts[""]), lines(parts["wanted"])) for flag, parts in sections("words/flags").items()]
COMMANDS = tables("words/commands")
CODE = {thing: list(parts.items())[-1] for thing, parts in sections("words/code").items()}  # language, text

# ------------------------------------------------------------------------------------------------------------
# Phrases: "[a|b]" is a choice, "<what>" a macro, "{slot}" a hole that is filled last

ASKING = sections("phrases/asking")
MACROS = table(ASKING["macros"][""])
SHORT = table(ASKING["short"][""])
BEFORE, AFTER, SYSTEMS = (lines(ASKING[title][""]) for title in ("before", "after", "system texts"))
CHOICE = re.compile(r"\[([^\[\]]*)\]")


def with_macros(template: str) -> str:
    if "<" in template:
        for macro, text in MACROS.items():
            template = template.replace(macro, text)
    return template


def every_choice(template: str) -> list[str]:
    """All that choose() can make of a template."""
    template = with_macros(template)
    match = CHOICE.search(template)
    if not match:
        return [template]
    before, after = template[: match.start()], template[match.end() :]
    return [text for choice in match[1].split("|") for text in every_choice(before + choice + after)]


def plain(text: str) -> str:
    """What is left of a question when its capitals and marks do not count."""
    return " ".join(re.findall(r"[\w{}]+", text.lower().replace("'", "")))


class Phrases:
    """Ways to say one thing, from a part of a section; only the evaluation uses those that are held out."""

    HELD: set[str] = set()  # the held-out ways of all phrases, plain

    def __init__(self, parts: dict[str, str], part: str = ""):
        self.train = lines(parts[part])
        self.held = lines(parts.get(f"{part}, held out".removeprefix(", "), ""))
        self.HELD.update(plain(one) for way in self.held for one in every_choice(way))
        self.weights = list(accumulate((1 + with_macros(way).count("|")) ** 0.5 for way in self.train))

    def any_way(self, rng: random.Random) -> str:
        """A template to train on. The more it can become, the more often it is taken."""
        return rng.choices(self.train, cum_weights=self.weights)[0]

    def pick(self, rng: random.Random, part: str) -> str:
        """One way. Those to train on are so many that some would come out as a held-out one: never those."""
        if part == "test":
            return rng.choice(self.held)
        while plain(way := " ".join(choose(rng, self.any_way(rng)).split())) in self.HELD:
            pass
        return way


def phrases(name: str) -> dict[str, Phrases]:
    return {title: Phrases(parts) for title, parts in sections(f"phrases/{name}").items()}


def choose(rng: random.Random, template: str) -> str:
    """Expands macros and takes one alternative of every [a|b], the inner ones first."""
    template = with_macros(template)
    while "[" in template:
        template = CHOICE.sub(lambda match: rng.choice(match[1].split("|")), template)
    return template


def fill(template: str, slots: dict) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: str(slots[match[1]]), template)


def say(rng: random.Random, template: str, **slots) -> str:
    """One wording of a reply."""
    return fill(choose(rng, template), slots)


def ask(rng: random.Random, template: str, **slots) -> str:
    """One wording as people type it: lower case, u for you, typos, no marks, but never inside a slot."""
    text = original = choose(rng, template).strip()
    if rng.random() < 0.08:  # in a hurry
        kept = [word for word in text.split() if word not in WORDS["small words"] or rng.random() < 0.5]
        text = " ".join(kept) or text
    if rng.random() < 0.22:
        text = rng.choice(BEFORE).replace("{}", text)
    if rng.random() < 0.10:
        text = rng.choice(AFTER).replace("{}", text.rstrip("?.!"))
    if plain(text) in Phrases.HELD and plain(original) not in Phrases.HELD:
        return ask(rng, template, **slots)  # "tell me " + "who built you" has become a held-out phrasing
    text = as_in_haste(rng, text)
    if plain(text) in Phrases.HELD and plain(original) not in Phrases.HELD:
        return ask(rng, template, **slots)
    return fill(text, slots)


def as_in_haste(rng: random.Random, text: str) -> str:
    if rng.random() < 0.05:
        text = re.sub(rf"(?<![\w{{])({'|'.join(SHORT)})(?![\w}}'])", lambda match: SHORT[match[0]], text)
    if rng.random() < 0.50:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.35:
        text = text.rstrip("?.!")
    if rng.random() < 0.20:
        text = text.replace("'", "")
    if rng.random() < 0.12:
        text = typo(rng, text)
    if rng.random() < 0.04:
        text += rng.choice(["?", "??", "!", "!!", " ?"])
    return text


def typo(rng: random.Random, text: str) -> str:
    """Drops, doubles or swaps one letter of one longer word that is no slot."""
    words = list(re.finditer(r"(?<![{\w])[a-z]{4,}(?![}\w])", text))
    if not words:
        return text
    word = rng.choice(words)
    i = rng.randrange(word.start() + 1, word.end() - 1)
    return rng.choice([text[:i] + text[i + 1 :], text[:i] + text[i] + text[i:],
                       text[:i] + text[i + 1] + text[i] + text[i + 2 :]])


# ------------------------------------------------------------------------------------------------------------
# Words


def is_held(item: str) -> bool:
    """A fixed eighth of all words, names, topics and sums is kept for the evaluation."""
    return zlib.crc32(item.encode()) % 8 == 0


REPLIED = {"Andrej"}  # names that replies speak of: drilled at the end of the training, and so not evaluated
PARTS: dict[tuple[int, str], list] = {}


def pick(rng: random.Random, items: list[str], part: str) -> str:
    """An item of the training part or of the held-out part of one of the lists of this module."""
    if (id(items), part) not in PARTS:
        chosen = [item for item in items if is_held(item) == (part == "test")]
        PARTS[id(items), part] = [item for item in chosen if item not in REPLIED]
    return rng.choice(PARTS[id(items), part])


ONSETS = "b c d f g h j k l m n p r s t v w z bl br ch cl dr fl gr pl pr sh sl st th tr".split()
VOWELS = "a e i o u ai ea ee oo ou".split()
CODAS = ["", "", "l", "m", "n", "r", "s", "t", "ck", "nd"]
SYLLABLES = [onset + vowel + coda for onset in ONSETS for vowel in VOWELS for coda in CODAS]


def invented(rng: random.Random) -> str:
    """A word that nobody has seen: it makes copying and spelling a skill rather than a table."""
    if rng.random() < 0.5:
        return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 3)))
    a, b = rng.choice(WORDS["words"]), rng.choice(WORDS["words"])
    return (a[: rng.randint(2, len(a))] + b[rng.randint(0, len(b) - 2) :])[:14]


def any_word(rng: random.Random, part: str) -> str:
    if part == "test" or rng.random() < 0.5:
        return pick(rng, WORDS["words"], part)
    return if_not_held(invented(rng))


def if_not_held(word: str) -> str:
    return "banana" if word in WORDS["words"] and is_held(word) else word


# ------------------------------------------------------------------------------------------------------------
# Skills. Each writes a turn: what the user types, what the model should answer, what the evaluation looks for

TOOL = "<|python_start|>{}<|python_end|>"
CAPITAL = "\x1f"  # behind a letter that was a capital: it becomes its own token, as the capital had been


@dataclass
class Turn:
    skill: str
    question: str
    reply: str
    need: list[str]  # regular expressions, all of which a right answer matches (its tool blocks taken out)


@dataclass
class Chat:
    """What a conversation has brought up so far, which later turns may come back to."""

    memory: dict[str, str] = field(default_factory=dict)
    topic: tuple = ()  # of the last turn: what "and Italy?" or "times 3?" would refer to


def word_of(text: str) -> str:
    """A pattern that finds text as a whole word or number."""
    return rf"(?<![\w.,-]){re.escape(text.lower())}(?!\w|[.,]\d)"


# Topics: what is said to one is the same whenever it comes up


@dataclass
class Topic:
    ways: Phrases
    replies: list[str]  # one of them is drawn
    reply: str  # if there are none: as it stands
    need: list[str]


def topics(name: str) -> dict[str, Topic]:
    found = {}
    for title, parts in sections(f"phrases/{name}").items():
        replies = [reply.replace(r"\n", "\n") for reply in lines(parts.get("replies", ""))]
        found[title] = Topic(Phrases(parts), replies, parts.get("reply", ""), lines(parts["must match"]))
    return found


def from_topics(skill: str, topics: dict[str, Topic]):
    """A skill that is a file of topics."""

    def write(rng: random.Random, chat: Chat, part: str) -> Turn:
        topic = rng.choice(list(topics.values()))
        reply = say(rng, rng.choice(topic.replies)) if topic.replies else topic.reply
        return Turn(skill, ask(rng, topic.ways.pick(rng, part)), reply, topic.need)

    return write


IDENTITY, SERVER = topics("identity"), topics("server")
small_talk = from_topics("greetings", topics("small_talk"))
identity = from_topics("identity", IDENTITY)
server_topics = from_topics("server", SERVER)

# The server's flags and commands

ASKED = phrases("flags")


def server(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    if kind < 0.50:
        return server_topics(rng, chat, part)
    if kind < 0.65:
        return command(rng, part)
    flag, about, goals = rng.choice(FLAGS)
    short = about.get("short")
    if kind < 0.82:
        name = rng.choice([flag, flag, short or flag, flag[2:] if part == "train" else flag])
        question = ask(rng, ASKED["flag named"].pick(rng, part), flag=name)
    else:
        way = ASKED["flag wanted"].pick(rng, part)
        question = ask(rng, way.replace("{goal}", rng.choice(goals)), n=operand(rng))
    if chat.topic[:1] == ("flag",) and rng.random() < 0.3 and part == "train":
        question = ask(rng, ASKED["flag, next"].train[0], flag=short or flag)
    chat.topic = ("flag",)
    title = f"`{flag}` (short `{short}`)" if short else f"`{flag}`"
    default, example = about["default"], about["example"]
    reply = f"{title} {about['meaning']}. The default is {default}. Example: `python chat_web.py {example}`"
    return Turn("server", question, reply, [re.escape(flag), word_of(default), re.escape(example.lower())])


def command(rng: random.Random, part: str) -> Turn:
    name, about = rng.choice(list(COMMANDS.items()))
    if part == "train" and name in ASKED and rng.random() < (0.5 if name == "/clear" else 0.15):
        question = ask(rng, ASKED[name].pick(rng, part))
    elif rng.random() < 0.6:
        question = ask(rng, ASKED["command named"].pick(rng, part), flag=name)
    else:
        question = ask(rng, ASKED["command wanted"].pick(rng, part).replace("{goal}", about["wanted"]))
    example = about["meaning"].split("`")[1]
    return Turn("server", question, f"{about['meaning']}.", [re.escape(example.lower())])


# Arithmetic

SUMS = phrases("sums")
STORIES, NEXT_SUMS, TYPED_SUMS = phrases("stories"), phrases("next_sums"), phrases("typed_sums")
SYMBOL = {"+": "+", "-": "-", "*": "×", "/": "/"}
ONES, TENS = WORDS["ones"], WORDS["tens"]
ROUND = {int(n): names.split("|") for n, names in FACTS["round numbers"].items()}  # for training only


def number_words(n: int) -> str:
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + ("-" + ONES[n % 10] if n % 10 else "")
    return ONES[n // 100] + " hundred" + (" and " + number_words(n % 100) if n % 100 else "")


def operand(rng: random.Random, low: int = 0) -> int:
    return rng.randint(low, 10 ** rng.choice([1, 1, 2, 2, 2, 3, 3, 4, 4]) - 1)


def operands(rng: random.Random, op: str, part: str) -> tuple[int, int]:
    """Two numbers of up to four digits whose sum, product, ... belongs to this part."""
    while True:
        a, b = operand(rng), operand(rng, low=1)
        if op == "/" and rng.random() < 0.5:
            a = b * rng.randint(1, max(1, 9999 // b))  # half of the divisions come out even
        if is_held(f"{a}{op}{b}") == (part == "test"):
            return a, b


def shown(result: str) -> str:
    """How a reply words what the calculator printed: 2.0 is 2, and long fractions are cut visibly."""
    if result.endswith(".0"):
        return result[:-2]
    if "e" in result:  # 1e-05
        return result
    whole, _, fraction = result.partition(".")
    return f"{whole}.{fraction[:4]}…" if len(fraction) > 4 else result


def sum_turn(rng: random.Random, chat: Chat, skill: str, question: str, expression: str,
             said: str = "") -> Turn:
    """A turn whose reply runs the expression and words its result; later turns may go on from there."""
    result = shown(calculate(expression))
    readable = "…" not in result and "e" not in result  # by the calculator, when the next sum begins with it
    chat.topic = ("sum", result if readable else expression)
    words = rng.choice(["The answer is", "That is", "The result is", "It is"])
    left = f"{said} =" if said and rng.random() < 0.5 else words
    end = "" if result.endswith("…") else "."
    reply = TOOL.format(expression) + f"{left} {result}{end}"
    return Turn(skill, question, reply, [word_of(result.rstrip("…"))])


def arithmetic(rng: random.Random, chat: Chat, part: str) -> Turn:
    op = rng.choice("+-*/")
    a, b = operands(rng, op, part)
    if max(a, b) >= 1000 and rng.random() < 0.2:  # 1,234 is copied: the calculator drops the comma
        a, b = f"{a:,}", f"{b:,}"
    frame = choose(rng, SUMS["frames"].pick(rng, part))
    wording = rng.choice(SUMS[op].train)
    question = ask(rng, frame.replace("{sum}", wording), a=a, b=b)
    return two_operands(rng, chat, "arithmetic", question, wording, op, a, b)


def two_operands(rng: random.Random, chat: Chat, skill: str, question: str, wording: str,
                 op: str, a, b) -> Turn:
    if op == "+" and wording.find("{b}") < wording.find("{a}"):  # add {b} to {a}
        a, b = b, a
    return sum_turn(rng, chat, skill, question, f"{a}{op}{b}", f"{a} {SYMBOL[op]} {b}")


def sums_in_words(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    write = sum_of_words if kind < 0.45 else story if kind < 0.82 else comparing if kind < 0.90 else long_sum
    return write(rng, chat, part)


def sum_of_words(rng: random.Random, chat: Chat, part: str) -> Turn:
    """twelve times three"""
    op = rng.choice("+-*/")
    a, b = rng.randint(0, rng.choice([20, 99, 999, 999])), rng.randint(1, rng.choice([12, 20, 99, 999]))
    if op == "/":
        a *= rng.choice([1, b]) if a * b < 1000 else 1
    if is_held(f"{a}{op}{b}") != (part == "test"):
        return sums_in_words(rng, chat, part)
    forms = [form for form in SUMS[op].train if re.search(r"\w\w", form)]  # "+" does not go with "twelve"
    wording = rng.choice(forms)
    join = rng.choice(["-", " "])
    as_words = [number_words(n).replace("-", join) if rng.random() < 0.85 else n for n in (a, b)]
    if part == "train" and rng.random() < 0.2:  # a hundred, a dozen, ...
        n, i = rng.choice(list(ROUND)), rng.randrange(2)
        pair = (n, b) if i == 0 else (a, n)
        if not is_held(f"{pair[0]}{op}{pair[1]}"):
            (a, b), as_words[i] = pair, rng.choice(ROUND[n])
    frame = choose(rng, SUMS["frames"].pick(rng, part))
    question = ask(rng, frame.replace("{sum}", wording), a=as_words[0], b=as_words[1])
    return two_operands(rng, chat, "sums in words", question, wording, op, a, b)


def story(rng: random.Random, chat: Chat, part: str) -> Turn:
    """I have 5 apples and get 3 more. How many?"""
    form = rng.choice(list(STORIES))
    low, high, c = *sorted((operand(rng, 2), operand(rng, 2))), operand(rng, 1)
    a, b = (high, low) if form in ("{a}-{b}", "{a}/{b}") else (low, high)
    if form == "{b}*{a}/100":
        a = rng.choice([5, 10, 15, 20, 25, 50, rng.randint(1, 99)])
    way = STORIES[form].pick(rng, part)
    question = ask(rng, way, things=rng.choice(WORDS["things"]), a=a, b=b, c=c)
    return sum_turn(rng, chat, "sums in words", question, fill(form, {"a": a, "b": b, "c": c}))


def comparing(rng: random.Random, chat: Chat, part: str) -> Turn:
    """9.11 or 9.9? The sign of the difference knows."""
    a, b = operand(rng), operand(rng)
    if rng.random() < 0.4:
        a, b = a + rng.randrange(100) / 100, rng.choice([a, b]) + rng.randrange(100) / 100
    if a == b:
        b += 1
    chat.topic = ()
    first, second, more, less = (f"{n:g}" for n in (a, b, max(a, b), min(a, b)))
    question = ask(rng, SUMS["comparing"].pick(rng, part), a=first, b=second)
    reply = TOOL.format(f"{first}-{second}") + f"{more} is bigger than {less}."
    return Turn("sums in words", question, reply, [rf"^{re.escape(more)} is bigger"])


def long_sum(rng: random.Random, chat: Chat, part: str) -> Turn:
    """Longer expressions are copied as they stand."""
    a, b, c = operand(rng), operand(rng, 1), operand(rng, 1)
    form = rng.choice(["{a}+{b}+{c}", "{a}+{b}*{c}", "({a}+{b})*{c}", "{a}*{b}-{c}", "{a}.5*{b}",
                       "{a}.25+{c}.5", "{a}-{b}-{c}", "{a}.{b}*{c}", "-{a}+{b}"])
    if rng.random() < 0.5:
        form = re.sub(r"(?<=[}\d)])([-+*])", r" \1 ", form)
    text = fill(form, {"a": a, "b": b, "c": c})
    frame = choose(rng, SUMS["frames"].pick(rng, part))
    question = ask(rng, frame.replace("{sum}", "{text}"), text=text)
    return sum_turn(rng, chat, "sums in words", question, text.replace(" ", ""))


def go_on(rng: random.Random, chat: Chat, part: str) -> Turn:
    """and times 3?"""
    if chat.topic[:1] != ("sum",) or len(chat.topic[1]) > 18:
        return arithmetic(rng, chat, "train")
    form = rng.choice(list(NEXT_SUMS))
    b, last = operand(rng, 1) % 1000 or 5, chat.topic[1]
    question = ask(rng, NEXT_SUMS[form].pick(rng, part), b=b)
    if re.search(r"\d[-+]", last) and form[3] in "*/":
        last = f"({last})"
    return sum_turn(rng, chat, "follow-up sums", question, fill(form, {"x": last, "b": b}))


# Words and letters

LETTERS = phrases("letters")
SPELLED = {act: ("spell", act) for act in ("spell", "reverse")}  # topics, which end when they come twice


def letters_of(rng: random.Random, part: str) -> str:
    """A word to count, spell or repeat. In training also short common ones, and endings that look alike."""
    kind = rng.random()
    if part == "test" or kind < 0.82:
        return any_word(rng, part)
    if kind < 0.90:
        return if_not_held(rng.choice(WORDS["short words"]))
    return if_not_held(invented(rng)[:8] + rng.choice(WORDS["endings"]))


def in_expression(word: str) -> str:
    """A word as it is put between quotes: in lower case, and in the tokens that the user's word has."""
    return word[0].lower() + CAPITAL + word[1:].lower() if word[0].isupper() else word


def as_typed(rng: random.Random, word: str) -> tuple[str, str]:
    """A word with or without its capital, and the same with or without quotes around it."""
    word = word.capitalize() if rng.random() < 0.12 else word
    return word, rng.choice(["{}", "{}", "{}", '"{}"', "'{}'"]).format(word)


def counting(rng: random.Random, chat: Chat, part: str) -> Turn:
    word = letters_of(rng, part)
    if rng.random() < (0.05 if part == "test" else 0.10):
        word += " " + letters_of(rng, part)
    word, typed = as_typed(rng, word)
    letter = rng.choice(word.replace(" ", "").lower() if rng.random() < 0.8 else ALPHABET)
    follow = part == "train" and chat.topic[:1] == ("count",) and rng.random() < 0.6
    if rng.random() < 0.15 and not follow and " " not in word:
        return counting_all(rng, word, typed, part)
    template = LETTERS["count"].pick(rng, part)
    if follow and rng.random() < 0.5:
        letter, template = chat.topic[1], rng.choice(LETTERS["count, next word"].train)
    elif follow:
        word, typed = chat.topic[2], chat.topic[2]
        template = rng.choice(LETTERS["count, next letter"].train)
    chat.topic = ("count", letter, word)
    n = word.lower().count(letter)
    times = "1 time" if n == 1 else f"{n} times"
    answer = rng.choice(["The letter {l} appears {n} in {w}.", "The letter {l} appears {n} in {w}.",
                         "In {w} the letter {l} appears {n}."])
    reply = TOOL.format(f"'{in_expression(word)}'.count('{letter}')")
    reply += fill(answer, {"l": letter, "n": times, "w": word})
    typed_letter = letter.upper() if rng.random() < (0.08 if part == "test" else 0.15) else letter
    return Turn("letter counting", ask(rng, template, l=typed_letter, w=typed), reply, [word_of(times)])


def counting_all(rng: random.Random, word: str, typed: str, part: str) -> Turn:
    """How many letters a word has: the calculator counts the spaces before them."""
    question = ask(rng, LETTERS["count all"].pick(rng, part), w=typed)
    spelled = "".join(" " + letter for letter in word.lower())
    reply = TOOL.format(f"'{spelled}'.count(' ')") + f"The word {word} has {len(word)} letters."
    return Turn("letter counting", question, reply, [word_of(str(len(word)))])


def spelling(rng: random.Random, chat: Chat, part: str) -> Turn:
    word = letters_of(rng, part)
    if part == "train" and rng.random() < 0.10:
        word = rng.choice(WORDS["names"])
    word, typed = as_typed(rng, word)
    letters = " ".join(word.lower())
    kind = rng.random()
    if kind < (0.12 if part == "test" else 0.16):
        end, verb, letter = rng.choice([("first", "[start|begin]", word[0]), ("last", "end", word[-1])])
        template = LETTERS["end letter"].pick(rng, part).replace("{end}", end).replace("{verb}", verb)
        reply = f"{word}: {letters}. The {end} letter is {letter.lower()}."
        return Turn("spelling", ask(rng, template, w=typed), reply, [rf"letter is {letter.lower()}\b"])
    chain = part == "train" and chat.topic[:1] == ("spell",) and rng.random() < 0.4
    act = chat.topic[1] if chain else "spell" if kind < 0.60 else "reverse"
    template = rng.choice(LETTERS["next word"].train) if chain else LETTERS[act].pick(rng, part)
    chat.topic = SPELLED[act]
    question = ask(rng, template, w=typed)
    if act == "spell":
        return Turn("spelling", question, f"{word}: {letters}", [rf": {letters}$"])
    back = letters[::-1]
    return Turn("spelling", question, f"{word}: {letters}. Backwards: {back}", [rf"backwards: {back}$"])


def repeating(rng: random.Random, chat: Chat, part: str) -> Turn:
    words = []
    for _ in range(rng.randint(1, 4) if part == "test" else rng.choice([1, 2, 2, 3, 3, 4, 4, 4, 5, 6])):
        again = words and part == "train" and rng.random() < 0.10  # a word twice is to be said twice
        words.append(rng.choice(words) if again else letters_of(rng, part))
    text = " ".join(words)
    if rng.random() < 0.2:
        text = str(operand(rng)) + rng.choice(["", " " + any_word(rng, part)])
    question = ask(rng, LETTERS["repeat"].pick(rng, part), x=text)
    return Turn("repeating", question, text, [re.escape(text.lower())])


# Memory


class Thing:
    """What can be told and is asked for later. The parts may be a template, with {thing} for the name."""

    def __init__(self, parts: dict[str, str], name: str = ""):
        parts = {part: text.replace("{thing}", name) for part, text in parts.items()}
        self.tell, self.recall = Phrases(parts, "told"), Phrases(parts, "asked")
        self.reply, self.answer, self.called = parts["reply"], parts["answer"], parts["called"]
        self.tell_more = Phrases(parts, "told, more") if "told, more" in parts else self.tell
        self.recall_more = Phrases(parts, "asked, more") if "asked, more" in parts else self.recall


REMEMBERING = phrases("remembering")
ABOUT = sections("phrases/memory")
CLOSE, RELATION, FAVOURITE = (ABOUT.pop(title) for title in ("close relation", "relation", "favourite"))
MEMORY = {key: Thing(parts) for key, parts in ABOUT.items()}
MEMORY |= {key: Thing(CLOSE, key) for key in ("brother", "sister", "friend", "wife")}
FAVOURITES = {"animal": LISTS["animals"], "drink": LISTS["drinks"], "sport": LISTS["sports"],
              "season": LISTS["seasons"], "day": WORDS["days"], "fruit": LISTS["fruits"],
              "flower": LISTS["flowers"]}
# For training only, as many things more: so that telling and asking are learned, and not a table of things
MEMORY_MORE = {key: Thing(RELATION, key) for key in WORDS["relations"]}
MEMORY_MORE |= {key: Thing(FAVOURITE, key) for key in FAVOURITES}
ALL_MEMORY = MEMORY | MEMORY_MORE
PEOPLE = ["name", "brother", "sister", "friend", "wife", "pet", *WORDS["relations"]]
ALIKE = [PEOPLE, ["number", "age"], ["city", "name"], ["colour", "food", "hobby", *FAVOURITES],  # could be
         ["job", "hobby"], ["word", "number", "name"], ["birthday", "day", "season"]]  # mixed up
VALUES = {"colour": WORDS["colours"], "food": WORDS["foods"], "job": WORDS["jobs"],
          "hobby": WORDS["hobbies"], "birthday": WORDS["months"], **FAVOURITES}
NAMED = {"city": WORDS["cities"], "pet": WORDS["pets"]}  # held out by the eighth, as people's names are
JOINS = [" and ", ", and ", ". ", ", "]  # between two facts in one go


def any_thing(rng: random.Random, ways: Phrases, key: str) -> str:
    """A way to tell any thing, or to ask for it, worded for the thing of this key."""
    way = choose(rng, ways.pick(rng, "train").replace("{thing}", ALL_MEMORY[key].called))
    return any_thing(rng, ways, key) if plain(way) in Phrases.HELD else way


def value_of(rng: random.Random, key: str, part: str) -> str:
    if key == "number":
        return str(operand(rng))
    if key == "age":
        return str(rng.randint(5, 99))
    if key == "word":
        return any_word(rng, part)
    if key in VALUES:
        value = rng.choice(VALUES[key])
    else:
        value = pick(rng, NAMED.get(key, WORDS["names"]), part)
        if part == "train" and rng.random() < 0.25:
            value = invented(rng).capitalize()
    return value.lower() if rng.random() < 0.2 else value


def like_one_of(rng: random.Random, known: list[str]) -> str:
    """A thing whose values are of the kind that those of a known thing are: names, favourites, ..."""
    key = rng.choice(known)
    return rng.choice(rng.choice([group for group in ALIKE if key in group]))


def noted(rng: random.Random, values) -> str:
    """The reply to several facts in one go."""
    return rng.choice(["Got it", "I will remember that", "Thank you"]) + f": {' and '.join(values)}."


def told(question: str, reply: str, *values: str) -> Turn:
    return Turn("being told", question, reply, [re.escape(value.lower()) for value in values])


def telling(rng: random.Random, chat: Chat, part: str) -> Turn:
    key = thing_to_tell(rng, chat, part)
    value = value_of(rng, key, part)
    question = ask(rng, way_to_tell(rng, key, value, part), x=value)
    if key in chat.memory and rng.random() < 0.5:
        question = rng.choice(REMEMBERING["corrections"].train).replace("{}", question)
    elif rng.random() < 0.1:
        question = rng.choice(REMEMBERING["openers"].train).replace("{}", question)
    chat.memory[key] = value
    reply = say(rng, ALL_MEMORY[key].reply, x=value)
    if rng.random() >= 0.12:
        return told(question, reply, value)
    other = rng.choice([k for k in MEMORY if k != key])  # two facts in one go
    second = value_of(rng, other, part)
    chat.memory[other] = second
    question += rng.choice(JOINS)
    way = MEMORY[other].tell.train[0]
    if part == "train" and rng.random() < 0.6:
        ways = any_thing(rng, REMEMBERING["tell"], other), MEMORY[other].tell_more.pick(rng, part)
        way = rng.choice(ways)
    question += ask(rng, way, x=second)
    return told(question, noted(rng, [value, second]), value, second)


def thing_to_tell(rng: random.Random, chat: Chat, part: str) -> str:
    key = rng.choice(list(MEMORY))
    if part == "test":
        return key
    draw = rng.random()
    if chat.memory and draw < 0.12:
        return rng.choice(list(chat.memory))  # told anew: the newest counts
    if chat.memory and draw < 0.45:
        return like_one_of(rng, list(chat.memory))
    return rng.choice(list(MEMORY_MORE)) if draw > 0.85 else key


def way_to_tell(rng: random.Random, key: str, value: str, part: str) -> str:
    kind = rng.random()
    if part == "train" and kind < 0.25:
        return any_thing(rng, REMEMBERING["tell"], key)
    if part == "train" and kind < 0.45:
        return ALL_MEMORY[key].tell_more.pick(rng, part)
    if part == "train" and key == "name" and value.capitalize() not in WORDS["names"]:
        return rng.choice(REMEMBERING["odd name"].train)
    return ALL_MEMORY[key].tell.pick(rng, part)


def recalling(rng: random.Random, chat: Chat, part: str) -> Turn:
    things = MEMORY if part == "test" else ALL_MEMORY
    known = [key for key in chat.memory if key in things]
    share = 0.92 if part == "test" else 0.935
    key = rng.choice(known) if known and rng.random() < share else rng.choice(list(MEMORY))
    if part == "train" and key not in known and rng.random() < 0.6:  # not told, but something like it was
        key = like_one_of(rng, known) if known else rng.choice(["name", key])
    kind = rng.random()
    if part == "train" and kind < 0.28:
        way = any_thing(rng, REMEMBERING["recall"], key)
    elif part == "train" and kind < 0.42:
        way = ALL_MEMORY[key].recall_more.pick(rng, part)
    else:
        way = ALL_MEMORY[key].recall.pick(rng, part)
    return recalled(rng, chat, key, ask(rng, way))


def recalled(rng: random.Random, chat: Chat, key: str, question: str) -> Turn:
    if key in chat.memory:
        return Turn("recalling", question, say(rng, ALL_MEMORY[key].answer, x=chat.memory[key]),
                    [word_of(chat.memory[key])])
    return Turn("recalling", question, say(rng, REMEMBERING["not told"].train[0]), ["not told me"])


def remembering(rng: random.Random, chat: Chat, part: str) -> Turn:
    if part == "test":
        recall = 0.65 if chat.memory else 0.08
    else:
        recall = 0.60 if chat.memory else 0.10
    return (recalling if rng.random() < recall else telling)(rng, chat, part)


REPLY_WORDS = sorted({word for topic in IDENTITY.values() for reply in topic.replies
                      for word in re.findall("[A-Za-z]{3,}", reply) if word in REPLIED or not is_held(word)})


def odd_name(rng: random.Random) -> str:
    """A name that nobody has: an invented word, or one that stands for something else elsewhere."""
    draw = rng.random()
    name = invented(rng) if draw < 0.5 else any_word(rng, "train") if draw < 0.7 else rng.choice(REPLY_WORDS)
    return name.lower() if rng.random() < 0.3 else name.capitalize()


def drilling(rng: random.Random, chat: Chat, part: str) -> Turn:
    """Memory once more: any word for a name, things that are alike, and many that nobody has told."""
    known = list(chat.memory)
    if known and rng.random() < 0.6:
        key = like_one_of(rng, known) if rng.random() < 0.45 else rng.choice(known)
        ways = [any_thing(rng, REMEMBERING[title], key) for title in ("recall what was told", "recall")]
        return recalled(rng, chat, key, ask(rng, rng.choice([*ways, ALL_MEMORY[key].recall.pick(rng, part)])))
    facts = []
    for _ in range(rng.choice([1, 2])):
        key = like_one_of(rng, known) if known and rng.random() < 0.6 else rng.choice(list(ALL_MEMORY))
        odd = key in PEOPLE and rng.random() < 0.6
        value = chat.memory[key] = odd_name(rng) if odd else value_of(rng, key, part)
        way = any_thing(rng, REMEMBERING["tell"], key)
        if rng.random() < 0.6 and not (odd and key == "name"):  # "i am banana" would say something else
            way = ALL_MEMORY[key].tell.pick(rng, part)
        facts.append((ask(rng, way, x=value), say(rng, ALL_MEMORY[key].reply, x=value), value))
    questions, replies, values = zip(*facts)
    reply = noted(rng, values) if len(facts) > 1 else replies[0]
    return told(rng.choice(JOINS).join(questions), reply, *values)


# Small facts

FACT_WAYS = phrases("facts")


def facts(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.choice(["capital", "capital", "colour", "opposite", "opposite", "sound", "after", "number"])
    again = part == "train" and chat.topic[:1] == ("fact",) and rng.random() < 0.5
    if again:
        kind = chat.topic[1]
    if kind == "after":
        return what_comes_after(rng, part)
    if kind == "number":
        thing, n = rng.choice(list(FACTS["numbers"].items()))
        what, where = thing.split(" ", 1)
        question = ask(rng, FACT_WAYS["number"].pick(rng, part), x=thing, y=what, z=where)
        return Turn("table facts", question, f"There are {n} {thing}.", [word_of(n)])
    chat.topic = ("fact", kind)
    thing, reply, need = fact_of(rng, kind, part)
    template = rng.choice(FACT_WAYS["next"].train) if again else FACT_WAYS[kind].pick(rng, part)
    return Turn("table facts", ask(rng, template, x=thing), reply, [need])


def what_comes_after(rng: random.Random, part: str) -> Turn:
    names, unit = rng.choice([(WORDS["months"], "month"), (WORDS["days"], "day")])
    i = rng.randrange(len(names))
    name, following = names[i], names[(i + 1) % len(names)]
    asked = name.lower() if rng.random() < 0.3 else name
    question = ask(rng, FACT_WAYS["after"].pick(rng, part).replace("{kind}", unit), x=asked)
    return Turn("table facts", question, f"After {name} comes {following}.", [f"comes {following.lower()}"])


def fact_of(rng: random.Random, kind: str, part: str) -> tuple[str, str, str]:
    """What is asked about, the reply, and what a right reply matches."""
    if kind == "capital":
        return capital(rng, part)
    known = FACTS[f"{kind}s"]
    thing, answer = rng.choice(list(known.items()))
    if kind == "colour":
        return thing, f"{thing.capitalize()} is {answer}.", word_of(answer)
    if kind == "sound":
        return thing, f"{'An' if thing[0] == 'o' else 'A'} {thing} says *{answer}*.", answer
    if list(known.values()).count(answer) == 1 and answer not in known and rng.random() < 0.4:
        thing, answer = answer, thing
    asked = rng.choice([thing, thing, f'"{thing}"'])
    return asked, f"The opposite of {thing} is {answer}.", rf"is {answer}\b"


def capital(rng: random.Random, part: str) -> tuple[str, str, str]:
    if rng.random() < (0.12 if part == "test" else 0.35):
        return unknown_capital(rng, part)
    country = rng.choice(list(FACTS["capitals"]))
    asked = country.lower() if rng.random() < 0.25 else country
    city = FACTS["capitals"][country]
    return asked, f"The capital of {country} is {city}.", word_of(city)


def unknown_capital(rng: random.Random, part: str) -> tuple[str, str, str]:
    """In training of any country that is not in the table, there be such a one or not."""
    country, draw = pick(rng, WORDS["far countries"], part), rng.random()
    if part == "train" and draw < 0.8:
        country = rng.choice(WORDS["more countries"]) if draw < 0.6 else invented(rng).capitalize()
    asked = country.lower() if part == "train" and rng.random() < 0.15 else country
    reply = f"I am tiny and know only a few capitals, and that of {country} is not among them."
    return asked, reply, "only a few capitals"


# Lists and markdown

LIST_TEXTS = sections("phrases/lists")
LIST_WAYS = {title: Phrases(parts) for title, parts in LIST_TEXTS.items()}
FORMS = {"bold": "**{w}**", "italic": "*{w}*", "code": "`{w}`", "heading": "# {w}", "quote": "> {w}"}
SHOWN_CODE = [f"hello world in {language}" for language in ("python", "bash", "javascript", "c", "python")]


def listed(question: str, reply: str) -> Turn:
    return Turn("lists and markdown", question, reply, [re.escape(reply.lower())])


def cells(*rows: tuple[str, str]) -> str:
    """A table in markdown, its head first."""
    head, *others = (f"| {a} | {b} |" for a, b in rows)
    return "\n".join([head, "|---|---|", *others])


def code_block(thing: str) -> str:
    return "```{}\n{}\n```".format(*CODE[thing])


def items_from(rng: random.Random, items: list[str], n: int) -> list[str]:
    start = rng.randrange(len(items))
    return [items[(start + i) % len(items)] for i in range(n)]


def either(rng: random.Random, topic: str) -> str:
    return topic.replace("colours", rng.choice(["colours", "colors"]))


def lists(rng: random.Random, chat: Chat, part: str) -> Turn:
    if part == "train" and rng.random() < 0.2:
        return lists_unnamed(rng)
    kind = rng.random()
    if kind < 0.48:
        return plain_list(rng, part)
    if kind < 0.62:
        thing = rng.choice(list(CODE))
        return listed(ask(rng, LIST_WAYS["code block"].pick(rng, part), x=thing), code_block(thing))
    if kind < 0.76:
        topic = rng.choice(list(TABLES))
        return listed(ask(rng, LIST_WAYS["table"].pick(rng, part), x=topic), cells(*TABLES[topic].items()))
    if kind >= 0.94:
        return listed(ask(rng, LIST_WAYS["markdown"].pick(rng, part)), LIST_TEXTS["markdown"]["reply"])
    form = rng.choice(list(FORMS))
    word = any_word(rng, part)
    quoted = rng.choice([word, word, f'"{word}"'])
    return listed(ask(rng, LIST_WAYS[form].pick(rng, part), w=quoted), fill(FORMS[form], {"w": word}))


def plain_list(rng: random.Random, part: str) -> Turn:
    topic, items = rng.choice(list(LISTS.items()))
    numbered = rng.random() < 0.3
    template = choose(rng, LIST_WAYS["numbered list" if numbered else "list"].pick(rng, part))
    n = rng.randint(2, min(6, len(items))) if "{n}" in template else 3
    chosen = items_from(rng, items, n)
    lines = [(f"{i}. " if numbered else "- ") + item for i, item in enumerate(chosen, 1)]
    asked = either(rng, topic)
    question = ask(rng, template, n=rng.choice([n, ONES[n]]), x=asked)
    need = rf"\A(([-]|\d+\.) ({'|'.join(items).lower()})(\n|\Z)){{{n}}}\Z"
    return Turn("lists and markdown", question, "\n".join(lines), [need])


def lists_unnamed(rng: random.Random) -> Turn:
    """For training: a table of three colours, two bold words, a python code block."""
    kind, n = rng.random(), rng.randint(2, 4)
    if kind < 0.40:
        topic, items = rng.choice(list(LISTS.items()))
        chosen = items_from(rng, items, n)
        asked = either(rng, topic)
        way = LIST_WAYS["table of items"].pick(rng, "train")
        question = ask(rng, way, n=rng.choice([n, ONES[n]]), x=asked)
        return listed(question, cells(("no.", topic), *enumerate(chosen, 1)))
    if kind < 0.75:
        form = rng.choice(["bold", "code", "italic", "heading", "quote"])
        names = lines(LIST_TEXTS[form]["several"])
        template = choose(rng, LIST_WAYS["several"].pick(rng, "train").replace("{x}", rng.choice(names)))
        n = n if "{n}" in template else 3
        question = ask(rng, template, n=rng.choice([n, ONES[n]]))
        written = [fill(FORMS[form], {"w": word}) for word in WORDS["written words"][:n]]
        return listed(question, ("\n\n" if form in ("heading", "quote") else " ").join(written))
    thing = rng.choice(SHOWN_CODE)
    return listed(ask(rng, LIST_WAYS[thing].pick(rng, "train")), code_block(thing))


# Emoji, other languages, accents

EMOJI_TEXTS = sections("phrases/emoji")
EMOJI_WAYS = {title: Phrases(parts) for title, parts in EMOJI_TEXTS.items()}


def emoji(rng: random.Random, chat: Chat, part: str) -> Turn:
    def turn(question: str, reply: str, need: str) -> Turn:
        return Turn("emoji and accents", question, reply, [need])

    kind = rng.random()
    if part == "train" and kind < 0.06:
        return turn(ask(rng, EMOJI_WAYS["smiley"].pick(rng, part)), "😀", "😀")
    if kind < 0.45:
        thing, sign = rng.choice(list(FACTS["emoji"].items()))
        question = ask(rng, EMOJI_WAYS["emoji"].pick(rng, part), x=thing)
        return turn(question, say(rng, "[|Here you are: |Here it is: ]{e}", e=sign), re.escape(sign))
    if kind < 0.6:
        n, signs = rng.randint(2, 6), list(FACTS["emoji"].values())
        chosen = items_from(rng, signs, n)
        question = ask(rng, EMOJI_WAYS["several emoji"].pick(rng, part), n=rng.choice([n, ONES[n]]))
        return turn(question, " ".join(chosen), rf"\A(({'|'.join(signs)})( |\Z)){{{n}}}\Z")
    if kind < 0.92:
        language = rng.choice(list(PHRASEBOOK))
        english, text = rng.choice(list(PHRASEBOOK[language].items()))
        asked = rng.choice([english, english, f'"{english}"'])
        spelled = language.lower() if rng.random() < 0.3 else language
        question = ask(rng, EMOJI_WAYS["phrase"].pick(rng, part), p=asked, l=spelled)
        return turn(question, say(rng, "[|In {l}: ]{t}", l=language, t=text), re.escape(text.lower()))
    question, reply = ask(rng, EMOJI_WAYS["accents"].pick(rng, part)), EMOJI_TEXTS["accents"]["reply"]
    return turn(question, reply, re.escape(reply.lower()))


# Refusals

REFUSALS = phrases("refusals")
TOPICS = REFUSALS["topics"].train


def refusing(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    if kind < 0.06:
        typed = "".join(rng.choices(ALPHABET + "      ;.,?!", k=rng.randint(3, 14))).strip() or "?"
        return Turn("honest refusals", typed, say(rng, REFUSALS["gibberish"].train[0]), ["tiny"])
    if kind < 0.5:
        question = ask(rng, REFUSALS["request"].pick(rng, part), n=operand(rng), m=operand(rng, 2))
    else:
        way, topic = REFUSALS["topic"].pick(rng, part), pick(rng, TOPICS, part)
        if part == "train":
            topic = trained_topic(rng, topic, alone=len(way) <= len("{topic}?"))
        question = ask(rng, way, topic=topic, other=pick(rng, TOPICS, part))
    reply = say(rng, rng.choice(REFUSALS["sorry"].train))
    return Turn("honest refusals", question, reply, ["tiny", "can't|don't know|not understand"])


def trained_topic(rng: random.Random, topic: str, alone: bool) -> str:
    """The topic, or one that is a word, or one of two words; but one that stands alone stays as it is."""
    draw = rng.random()
    if alone:
        return topic
    if draw < 0.3:
        word = any_word(rng, "train")
        if word in WORDS["no topics"]:
            return topic
        return rng.choice(["{}", "{}", "{}", "the {}", "a {}", "{}s"]).format(word)
    if rng.random() >= 0.4:
        return topic
    topic = f"{rng.choice(WORDS['fields'])} {rng.choice(WORDS['theories'])}"
    if rng.random() < 0.6 or topic in TOPICS:
        topic = rng.choice(WORDS["fields"] + WORDS["short fields"]) + " " + any_word(rng, "train")
    return topic


# What people typed at the model after its second phase and it got wrong: for the last steps only


def finishing(rng: random.Random, chat: Chat, part: str) -> Turn:
    """Any words to be repeated, two facts at once, facts that are owed, and a few odd sums and tables."""
    if chat.topic[:1] == ("owed",):
        return paying(rng, chat, part)
    kind = rng.random()
    if kind < 0.20:
        way, text = LETTERS["repeat"].pick(rng, part), choose(rng, rng.choice(LETTERS["sayings"].train))
        return Turn("repeating", ask(rng, way, x=text), text, [])
    if kind < 0.40:
        return asking_for_any(rng, chat, part)
    if kind < 0.60:
        way = rng.choice(REMEMBERING["two facts"].train)
        facts = {key: value_of(rng, key, part) for key in re.findall(r"\{(\w+)\}", way)}
        chat.memory |= facts
        reply = noted(rng, facts.values())
        return told(ask(rng, way, **facts), reply)
    if kind < 0.68:
        return having(rng, chat, part)
    if kind < 0.80:
        return typed_sum(rng, chat, part)
    if kind < 0.88:
        return arithmetic(rng, chat, part)
    if kind < 0.92:
        question = ask(rng, LIST_WAYS["table of capitals"].pick(rng, part))
        return Turn("lists and markdown", question, cells(*TABLES["countries and capitals"].items()), [])
    if kind < 0.95:
        question = ask(rng, ASKED["endpoint wanted"].pick(rng, part))
        return Turn("server", question, SERVER["completions"].reply, [])
    return lists(rng, chat, part)


def asking_for_any(rng: random.Random, chat: Chat, part: str) -> Turn:
    """Any thing, most often one that is unlike what was told."""
    key = rng.choice(list(ALL_MEMORY))
    ways = any_thing(rng, REMEMBERING["recall"], key), ALL_MEMORY[key].recall.pick(rng, part)
    turn = recalled(rng, chat, key, ask(rng, rng.choice(ways)))
    if key not in chat.memory:
        chat.topic = ("owed", key)
    return turn


def paying(rng: random.Random, chat: Chat, part: str) -> Turn:
    """It had not been told, and now it is."""
    key = chat.topic[1]
    value = chat.memory[key] = value_of(rng, key, part)
    reply = say(rng, ALL_MEMORY[key].reply, x=value)
    return told(ask(rng, rng.choice(REMEMBERING["it is"].train), x=value), reply)


def having(rng: random.Random, chat: Chat, part: str) -> Turn:
    """I have 12 apples, and how many do I have?"""
    things, n = rng.choice(WORDS["things"]), str(rng.randint(2, 30))
    if chat.topic[:1] == ("have",) and rng.random() < 0.8:
        _, things, n = chat.topic
        question = ask(rng, REMEMBERING["how many"].pick(rng, part), x=things)
        return Turn("recalling", question, f"You have {n} {things}.", [])
    chat.topic = ("have", things, n)
    reply = say(rng, "[Got it|OK|All right], you have {n} {x}.", n=n, x=things)
    return told(ask(rng, REMEMBERING["have"].pick(rng, part), n=n, x=things), reply)


def typed_sum(rng: random.Random, chat: Chat, part: str) -> Turn:
    a, b = rng.randint(1, rng.choice([20, 99, 999])), rng.randint(1, rng.choice([20, 99, 999]))
    form = rng.choice(list(TYPED_SUMS))
    expression = fill(form, {"a": a, "b": b})
    if is_held(expression):
        return finishing(rng, chat, part)
    words = {name: number_words(n) if rng.random() < 0.6 else n for name, n in (("a", a), ("b", b))}
    question = ask(rng, TYPED_SUMS[form].pick(rng, part), **words)
    return sum_turn(rng, chat, "sums in words", question, expression)


# ------------------------------------------------------------------------------------------------------------
# Conversations

# Skill and how often it is trained on
SKILLS = [
    (small_talk, 11), (identity, 14), (server, 20), (arithmetic, 11), (sums_in_words, 9), (go_on, 5),
    (counting, 14), (spelling, 12), (repeating, 6), (remembering, 22), (facts, 9), (lists, 6), (emoji, 5),
    (refusing, 10),
]
SECOND_SKILLS = [*SKILLS, (drilling, 80), (emoji, 15), (sums_in_words, 8), (lists, 6)]
LAST_SKILLS = [
    *SKILLS, (drilling, 50), (finishing, 25), (identity, 8), (arithmetic, 8), (refusing, 5), (server, 5),
    (lists, 6), (small_talk, 6),
]


def conversation(rng: random.Random, turns: int, mix: list = SKILLS) -> list[Turn]:
    """Turns over mixed skills, each of which may come back to what was said before it."""
    chat = Chat()
    skills, weights = zip(*mix)
    written, skill = [], None
    for _ in range(turns):
        topic = chat.topic
        if skill is None or rng.random() < 0.7:
            skill = rng.choices(skills, weights)[0]
        if topic[:1] == ("sum",) and rng.random() < 0.3:
            skill = go_on
        come_back = chat.memory and rng.random() < 0.28  # to what was told a few turns ago
        written.append((recalling if come_back else skill)(rng, chat, "train"))
        if chat.topic is topic:
            chat.topic = ()  # the subject has changed
    if rng.random() < 0.04:
        written[0].question = rng.choice(SYSTEMS) + "\n\n" + written[0].question
    return written
