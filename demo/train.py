"""Makes the demo model: its conversations, its tokenizer, its weights, and the table that judges it.

    python demo/train.py               everything: the model in this folder, in under an hour on two CPU
                                       cores with nothing else to do
    python demo/train.py --eval        only judges the model that is saved in this folder
    python demo/train.py --show 20     only prints conversations of the kind that it is trained on

It needs torch and tiktoken, as the server does, and nothing else. No corpus is read: every conversation is
written by the tables and the grammar below from a seed, and the same seed gives the same model. The forward
pass, the calculator, the sampler and the tokenizer are the server's own (one folder up); only the optimiser is
here. In the order of this file: word lists, phrases, skills, conversations, tokenizer, training, evaluation.

What is called held out is for the evaluation only: phrasings are never trained on, and words, names, topics
and sums not in the skill that they belong to.
"""

import argparse
import json
import math
import pickle
import random
import re
import sys
import time
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path

import tiktoken
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path.append(str(HERE.parent))
from checkpoint import SPECIALS, Tokenizer, find, read  # noqa: E402
from engine import GPT, Config, Engine, calculate, shortest  # noqa: E402

# ------------------------------------------------------------------------------------------------------------
# Word lists

WORDS = """
 able about above accident across action address adventure afternoon airport album alphabet amazing anchor
angel animal answer apple apricot april arrow artist autumn avocado balance balloon bamboo banana barrel
basket battery beach bedroom believe bicycle biscuit blanket blossom blueberry boat bottle bottom bread
breakfast brick bridge bubble bucket building butter butterfly button cabbage cabinet calculator calendar
camera candle canyon captain caramel carpet carrot castle caterpillar ceiling cellar cement cereal chair
chalk champion channel checkpoint cheese cherry chicken chimney chocolate church cinnamon circle circus city
classroom clever cloud clover coconut coffee college comet committee computer concert cookie copper corner
cottage cotton cousin cricket crocodile crystal cucumber curtain cushion dance daughter december desert
dessert diamond dictionary dinner dinosaur doctor dolphin donkey dragon drawer dream driver duckling eagle
earth earthquake elbow electric elephant elevator embassy engine envelope evening example factory family
farmer feather fiddle finger firefly flower football forest fountain fourteen fox freedom friend frozen
furniture galaxy garden garlic gentle ginger giraffe glass glasses glove gold grammar grape grass grasshopper
green guitar hammer hammock harbour harvest hazelnut hedgehog helicopter hello hippopotamus history holiday
honey horizon horse hospital hotel hour hundred hurricane iceberg igloo imagine inside insect island ivory
jacket jaguar jelly jellyfish jigsaw jungle juniper kangaroo kettle keyboard kingdom kitchen kitten knife
koala ladder language lantern laptop laughter lavender leather lemon leopard letter lettuce library light
lightning lion lizard lobster machine magazine magnet mango marble market marmalade meadow medicine melon
memory message metal middle midnight million mineral minute mirror mississippi mistake model monkey moonlight
morning mosquito mountain muffin museum mushroom music mustard napkin nature necklace needle neighbour
nothing notebook november number nutmeg oatmeal ocean october octopus office olive onion orange orchestra
ostrich oxygen oyster paint palace pancake panda paper paprika parade parrot parsley passenger peach peanut
pebble pencil penguin pepper petal piano pickle picture pigeon pillow pineapple pirate planet plastic pocket
poem pottery potato practice princess problem programming pudding pumpkin puppy puzzle pyramid quarter queen
question quiet rabbit radio raindrop raspberry recipe record reindeer restaurant ribbon river robot rocket
rooster saddle sailor salad sandwich satellite sausage scarecrow science scissors seahorse season secret
seven shadow shampoo shoulder silver sister skeleton sleep slipper snowflake soccer spaghetti sparrow spider
spinach spoon spring squirrel stadium station stone strawberry street student subway sugar summer sunflower
sunset surprise swallow sweater swimming table tangerine teacher telephone tennis theater thunder ticket
tiger tiny tomato tomorrow toothbrush tornado tortoise tower traffic train treasure triangle trumpet tulip
tunnel turkey turtle twenty umbrella uncle unicorn universe valley vanilla vegetable velvet village violin
volcano volleyball waffle walnut water waterfall watermelon weather wedding whale whisper window winter
wizard wonder woodpecker yellow yesterday yogurt zebra zipper zucchini bookkeeper parallel address success
tattoo raccoon balloonist cheerleader reverse little really mammal pepperoni
""".split()

NAMES = """
 Ada Adam Ahmed Aisha Alan Alex Alice Amara Amy Andrej Andrew Angela Anna Anton Arjun Ben Bob Boris Carla
Carlos Carol Cara Charlie Chen Chloe Chris Clara Claire Dan Dana David Diana Diego Dora Elena Eli Elias Ella
Emil Emily Emma Eric Erik Eva Felix Fatima Finn Fiona Frank Frida George Grace Greta Hana Hannah Hans Harry
Helen Henry Hugo Ida Igor Ines Ingrid Iris Ivan Jack James Jan Jana Jane Jens Joe John Jonas Julia Karl Kate
Kai Kim Klara Lara Laura Lea Lena Leo Liam Lily Linda Linus Lisa Louis Lucas Lucy Luis Luke Maria Marie Mark
Marta Martin Mary Max Maya Mia Michael Mila Mohamed Mona Nadia Nate Nina Noah Nora Olga Oliver Olivia Omar
Oscar Otto Pablo Paul Peter Petra Priya Rachel Ravi Rita Robert Rosa Ruth Sam Sara Sarah Simon Sofia Sonja
Stefan Steve Sven Tara Theo Thomas Tim Tina Tom Uma Vera Victor Viktor Wanda Walter Wei Will Yuki Yusuf Zara
Zoe
""".split()
PETS = """
Bella Biscuit Bruno Buddy Cookie Daisy Fluffy Ginger Lucky Luna Milo Minka Muffin Oreo Patch Pepper Pip Rex
Rocky Rusty Shadow Simba Snowy Spot Tiger Toby Waffles Ziggy
""".split()
CITIES = """
Amsterdam Athens Austin Barcelona Basel Berlin Bern Boston Bremen Brussels Chicago Cologne Copenhagen Delhi
Denver Dresden Dublin Geneva Hamburg Hanoi Helsinki Kyoto Lagos Leeds Lima Lisbon London Lyon Madrid Manila
Miami Milan Montreal Mumbai Munich Nairobi Naples Osaka Oslo Oxford Paris Porto Prague Riga Rome Seattle
Seoul Sofia Stockholm Sydney Tokyo Toronto Turin Vienna Warsaw Zagreb
""".split()
COLOURS = """
red blue green yellow orange purple pink black white brown grey turquoise gold silver violet teal
""".split()
FOODS = """
pizza pasta sushi soup rice curry tacos pancakes noodles salad bread cheese chocolate dumplings burgers
lasagna falafel ramen waffles potatoes
""".split()
JOBS = """
teacher doctor nurse baker farmer pilot lawyer painter writer student plumber engineer musician chef
carpenter gardener dentist driver
""".split()
HOBBIES = """
chess football tennis reading cooking painting running swimming dancing gardening hiking fishing cycling
photography singing knitting
""".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

CAPITALS = {
    "Argentina": "Buenos Aires", "Australia": "Canberra", "Austria": "Vienna", "Belgium": "Brussels",
    "Brazil": "Brasília", "Canada": "Ottawa", "China": "Beijing", "Denmark": "Copenhagen", "Egypt": "Cairo",
    "Finland": "Helsinki", "France": "Paris", "Germany": "Berlin", "Greece": "Athens", "Hungary": "Budapest",
    "India": "New Delhi", "Ireland": "Dublin", "Italy": "Rome", "Japan": "Tokyo", "Kenya": "Nairobi",
    "Mexico": "Mexico City", "Norway": "Oslo", "Peru": "Lima", "Poland": "Warsaw", "Portugal": "Lisbon",
    "Russia": "Moscow", "Spain": "Madrid", "Sweden": "Stockholm", "Switzerland": "Bern", "Turkey": "Ankara",
    "England": "London",
}
FAR_COUNTRIES = """
Mongolia Bhutan Chad Fiji Laos Malta Nepal Oman Togo Yemen Gabon Ghana Guinea Haiti Iceland Iraq Jamaica
Jordan Latvia Libya Mali Namibia Niger Panama Qatar Rwanda Senegal Serbia Sudan Zambia
""".split()
MORE_COUNTRIES = """
Afghanistan Albania Algeria Andorra Angola Armenia Azerbaijan Bahrain Bangladesh Barbados Belarus Belize
Benin Bolivia Bosnia Botswana Brunei Bulgaria Burundi Cambodia Cameroon Chile Colombia Congo Croatia Cuba
Cyprus Czechia Djibouti Dominica Ecuador Eritrea Estonia Eswatini Ethiopia Gambia Georgia Grenada Guatemala
Guyana Honduras Indonesia Iran Israel Kazakhstan Kiribati Kosovo Kuwait Kyrgyzstan Lebanon Lesotho Liberia
Liechtenstein Lithuania Luxembourg Madagascar Malawi Malaysia Maldives Mauritania Mauritius Micronesia
Moldova Monaco Montenegro Morocco Mozambique Myanmar Nauru Netherlands Nicaragua Nigeria Pakistan Palau
Paraguay Philippines Romania Samoa Scotland Seychelles Singapore Slovakia Slovenia Somalia Suriname Syria
Taiwan Tajikistan Tanzania Thailand Tonga Tunisia Turkmenistan Tuvalu Uganda Ukraine Uruguay Uzbekistan
Vanuatu Venezuela Vietnam Wales Zimbabwe Catalonia Bavaria Texas Greenland Tibet Atlantis Narnia
""".split()  # for training only: the capitals that it does not know are far more than those that it does
THING_COLOURS = {
    "the sky": "blue", "grass": "green", "a banana": "yellow", "snow": "white", "coal": "black",
    "a lemon": "yellow", "a tomato": "red", "blood": "red", "the sea": "blue", "an orange": "orange",
    "a carrot": "orange", "milk": "white", "chocolate": "brown", "a frog": "green", "a flamingo": "pink",
    "the sun": "yellow", "an elephant": "grey", "a strawberry": "red", "a lime": "green", "a pig": "pink",
    "the night": "black", "a polar bear": "white",
}
OPPOSITES = {
    "hot": "cold", "big": "small", "tall": "short", "fast": "slow", "happy": "sad", "day": "night",
    "up": "down", "left": "right", "light": "dark", "old": "young", "open": "closed", "rich": "poor",
    "wet": "dry", "hard": "soft", "full": "empty", "early": "late", "high": "low", "good": "bad",
    "loud": "quiet", "strong": "weak", "near": "far", "love": "hate", "win": "lose", "push": "pull",
    "thick": "thin", "clean": "dirty", "heavy": "light", "yes": "no", "always": "never", "begin": "end",
    "sweet": "sour", "deep": "shallow", "true": "false", "inside": "outside",
}
SOUNDS = {
    "cat": "meow", "dog": "woof", "cow": "moo", "duck": "quack", "sheep": "baa", "pig": "oink",
    "lion": "roar", "frog": "ribbit", "owl": "hoot", "bee": "buzz", "snake": "hiss", "mouse": "squeak",
}
LISTS = {
    "fruits": "apple banana cherry grape lemon mango orange peach pear plum".split(),
    "vegetables": "carrot cabbage onion pepper potato spinach tomato cucumber garlic".split(),
    "animals": "cat dog horse cow lion tiger bear rabbit fox owl".split(),
    "colours": "red orange yellow green blue purple pink brown".split(),
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split(),
    "countries": "France Germany Italy Spain Japan Canada Brazil India Kenya Norway".split(),
    "instruments": "piano guitar violin trumpet drums flute cello harp".split(),
    "sports": "football tennis swimming cycling running hockey judo golf".split(),
    "drinks": "water tea coffee milk juice lemonade cocoa".split(),
    "programming languages": "Python C Rust Go Java Ruby Swift Lua".split(),
    "shapes": "circle square triangle rectangle oval star hexagon".split(),
    "metals": "iron gold silver copper tin lead zinc".split(),
    "flowers": "rose tulip daisy lily sunflower violet iris".split(),
    "birds": "sparrow owl eagle pigeon parrot duck swan robin".split(),
    "seasons": "spring summer autumn winter".split(),
}
EMOJI = {
    "cat": "🐱", "dog": "🐶", "horse": "🐴", "cow": "🐮", "pig": "🐷", "fox": "🦊", "lion": "🦁",
    "frog": "🐸", "monkey": "🐵", "penguin": "🐧", "owl": "🦉", "fish": "🐟", "whale": "🐳", "bee": "🐝",
    "snail": "🐌", "robot": "🤖", "rocket": "🚀", "heart": "❤️", "star": "⭐", "sun": "☀️", "moon": "🌙",
    "rain": "🌧️", "snow": "❄️", "fire": "🔥", "flower": "🌸", "tree": "🌳", "pizza": "🍕", "apple": "🍎",
    "banana": "🍌", "strawberry": "🍓", "cake": "🎂", "coffee": "☕", "car": "🚗", "bike": "🚲",
    "train": "🚆", "boat": "⛵", "house": "🏠", "book": "📚", "music": "🎵", "guitar": "🎸",
    "football": "⚽", "party": "🎉", "smile": "😀", "sad": "😢", "angry": "😠", "sleepy": "😴",
    "thumbs up": "👍", "wave": "👋", "clap": "👏", "rainbow": "🌈", "ghost": "👻", "snake": "🐍",
}
PHRASEBOOK = {
    "French": ("Bonjour !", "Merci beaucoup !", "Bonne nuit !", "Au revoir, à bientôt !", "Joyeux Noël !"),
    "Spanish": ("¡Hola!", "¡Muchas gracias!", "¡Buenas noches!", "¡Adiós, hasta mañana!", "¡Feliz Navidad!"),
    "German": ("Guten Tag!", "Vielen Dank, das ist schön!", "Gute Nacht!", "Tschüss!",
               "Fröhliche Weihnachten!"),
    "Italian": ("Ciao!", "Grazie mille!", "Buona notte!", "Arrivederci!", "Buon Natale!"),
    "Portuguese": ("Olá!", "Muito obrigado!", "Boa noite!", "Até amanhã!", "Feliz Natal!"),
    "Swedish": ("Hej!", "Tack så mycket!", "God natt!", "Hej då!", "God jul!"),
    "Japanese": ("こんにちは!", "ありがとう!", "おやすみ!", "さようなら!", "メリークリスマス!"),
}
PHRASEBOOK_ENGLISH = ("hello", "thank you", "good night", "goodbye", "merry christmas")
CODE = {
    "hello world in python": ("python", 'print("hello, world")'),
    "hello world in c": ("c", '#include <stdio.h>\n\nint main(void) {\n    puts("hello, world");\n}'),
    "hello world in javascript": ("js", 'console.log("hello, world")'),
    "hello world in bash": ("bash", 'echo "hello, world"'),
    "a loop in python": ("python", "for i in range(5):\n    print(i)"),
    "a function in python": ("python", "def double(x):\n    return 2 * x"),
    "an if in python": ("python", 'if x > 0:\n    print("positive")'),
    "a curl request": ("bash", "curl -N localhost:8000/chat/completions \\\n    -H 'Content-Type: "
                               "application/json' \\\n"
                               "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}'"),
}
TABLES = {
    "fruits and their colours": ("fruit", "colour", {"apple": "red", "banana": "yellow", "lime": "green"}),
    "countries and capitals": ("country", "capital", {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo"}),
    "animals and their sounds": ("animal", "sound", {"cat": "meow", "cow": "moo", "duck": "quack"}),
    "words and opposites": ("word", "opposite", {"hot": "cold", "big": "small", "up": "down"}),
    "animals and emoji": ("animal", "emoji", {"cat": "🐱", "dog": "🐶", "fox": "🦊"}),
    "the endpoints": ("endpoint", "what it does", {
        "`GET /`": "the chat page", "`POST /chat/completions`": "streams a reply",
        "`GET /health`": "is it ready",
        "`GET /stats`": "the workers"}),
    "your flags": ("flag", "default", {"`-p`": "8000", "`-t`": "0.8", "`-k`": "50", "`-m`": "512",
                                       "`-n`": "1"}),
}
ONES = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen
""".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()

# ------------------------------------------------------------------------------------------------------------
# Phrases: "[a|b]" is a choice, "<what>" a macro, "{slot}" a hole that is filled last

MACROS = {
    "<whats>": "[what is|what's|whats|tell me]",
    "<can>": "[can|could] you",
    "<how>": "[how do i|how can i|how to|how would i|how do you]",
    "<show>": "[show me|give me|write|make|print]",
    "<fav>": "[favourite|favorite]",
    "<tell>": "[tell me|could you tell me|can you tell me|i'd like to know|i want to know|do you know|"
              "please tell me|i wonder|i was wondering|let me know|can you say|may i ask|any idea|explain]",
    "<are>": "[are you|are you|are you|is <bot>]",
    "<youare>": "[you are|you are|<bot> is]",
    "<have>": "[do you have|do you have|does <bot> have]",
    "<was>": "[were you|were you|was <bot>]",
    "<youwere>": "[you were|you were|<bot> was]",
    "<your>": "[your|your|your|the model's|this model's|this bot's|the bot's]",
    "<bot>": "[this model|this bot|this demo|this chatbot|the demo model|the model behind this page|"
             "the bot here]",
}
SHORT = {"you": "u", "are": "r", "your": "ur", "you're": "ur", "please": "pls", "thanks": "thx"}
BEFORE = ["hey, ", "hi, ", "ok, ", "please ", "so, ", "um ", "well, ", "and ", "ok ", "hello, ",
          "quick question: ", "now ", "alright, ", "just curious, ", "sorry, ", "great, ", "cool. ",
          "tell me ",
          "please tell me ", "can you tell me ", "could you tell me ", "i want to know ", "i'd like to know ",
          "do you know ", "maybe you know ", "can you say ", "one more thing: ", "yes but ", "i wonder ",
          "hmm, ", "a question: ", "hi bot, ", "thanks. ", "next: ", "i would like to ask ", "is it true: "]
AFTER = [" please", " thanks", ", please", " now", " then", "?!", " :)", " pls", ", thanks", " for me", "..."]
SMALL_WORDS = set("the a an is are do does i you me of to for in it that this can what's please my your "
                  "there".split())


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
    """Ways to say one thing, with semicolons between them; only the evaluation uses those of `held`."""

    HELD: set[str] = set()  # the held-out ways of all phrases, plain

    def __init__(self, train: str, held: str = ""):
        self.train = [" ".join(way.split()) for way in train.split(";")]
        self.held = [" ".join(way.split()) for way in held.split(";") if way.strip()]
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
        kept = [word for word in text.split() if word not in SMALL_WORDS or rng.random() < 0.5]
        text = " ".join(kept) or text
    if rng.random() < 0.22:
        text = rng.choice(BEFORE) + text
    if rng.random() < 0.10:
        text = text.rstrip("?.!") + rng.choice(AFTER)
    if plain(text) in Phrases.HELD and plain(original) not in Phrases.HELD:
        return ask(rng, template, **slots)  # "tell me " + "who built you" has become a held-out phrasing
    if rng.random() < 0.05:
        text = re.sub(r"(?<![\w{])(you're|you|are|your|please|thanks)(?![\w}'])", lambda m: SHORT[m[0]], text)
    if rng.random() < 0.50:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.35:
        text = text.rstrip("?.!")
    if rng.random() < 0.20:
        text = text.replace("'", "")
    if rng.random() < 0.12:
        text = typo(rng, text)
    if rng.random() < 0.04:
        text = text + rng.choice(["?", "??", "!", "!!", " ?"])
    if plain(text) in Phrases.HELD and plain(original) not in Phrases.HELD:
        return ask(rng, template, **slots)
    return fill(text, slots)


def typo(rng: random.Random, text: str) -> str:
    """Drops, doubles or swaps one letter of one longer word that is no slot."""
    words = [match for match in re.finditer(r"(?<![{\w])[a-z]{4,}(?![}\w])", text)]
    if not words:
        return text
    word = rng.choice(words)
    i = rng.randrange(word.start() + 1, word.end() - 1)
    return rng.choice([text[:i] + text[i + 1 :], text[:i] + text[i] + text[i:],
                       text[:i] + text[i + 1] + text[i] + text[i + 2 :]])


def is_held(item: str) -> bool:
    """A fixed eighth of all words, names, topics and sums is kept for the evaluation."""
    return zlib.crc32(item.encode()) % 8 == 0


REPLIED = {"Andrej"}  # names that replies speak of: drilled at the end of the training, and so not evaluated
PARTS: dict[tuple[int, str], list] = {}


def pick(rng: random.Random, items, part: str):
    """An item of the training part or of the held-out part of one of this file's lists."""
    if (id(items), part) not in PARTS:
        chosen = [item for item in items if is_held(str(item)) == (part == "test")]
        PARTS[id(items), part] = [item for item in chosen if str(item) not in REPLIED]
    return rng.choice(PARTS[id(items), part])


SYLLABLES = [a + b + c for a in "b c d f g h j k l m n p r s t v w z bl br ch cl dr fl gr pl pr sh sl st th "
                                "tr".split()
             for b in "a e i o u ai ea ee oo ou".split() for c in ["", "", "l", "m", "n", "r", "s", "t", "ck",
                 "nd"]]


def invented(rng: random.Random) -> str:
    """A word that nobody has seen: it makes copying and spelling a skill rather than a table."""
    if rng.random() < 0.5:
        return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 3)))
    a, b = rng.choice(WORDS), rng.choice(WORDS)
    return (a[: rng.randint(2, len(a))] + b[rng.randint(0, len(b) - 2) :])[:14]


def any_word(rng: random.Random, part: str) -> str:
    if part == "test" or rng.random() < 0.5:
        return pick(rng, WORDS, part)
    word = invented(rng)
    return word if not (word in WORDS and is_held(word)) else "banana"


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


SMALL_TALK = {
    "hello": (Phrases("""
        [hi|hello|hey|hiya|howdy|yo|greetings]; [hi|hello|hey] [there|you|bot|friend|again|robot]; good
        [morning|afternoon|evening|day]; [hi|hello|hey]!; hello [world|hello]; [hi|hey] 👋; morning!; hey hey;
        hi, is anyone there?; hello, can you hear me?; [hi|hello|hey|hiya|good morning|good evening|good
        afternoon] [everyone|all|computer|machine|chatbot| assistant|my friend|little
        bot|demo|model|pal|buddy|mate]; [afternoon|good to see you|nice to meet you|nice to see you|pleased
        to meet you|well hi|oh hi|oh hello|hey you there]; [hi|hello|hey], [good morning|good day|good
        evening|nice to meet you|nice to see you|it's me|i am back|i'm back|i'm new here];
        [hi|hello|hey][!!|...| :)| 😊]; [hello|hi|hey], anybody [there|home]?; a [very |]good
        [morning|evening|afternoon] [to you|bot|friend]; morning [bot|robot|all|friend]; [top of the
        morning|what a nice morning|a nice evening to you]; [heya|hullo|helo|hola|hai|hii|heyy|heyo|ahoy];
        [hello|hi] [hello|there] [there|bot|friend]; [just saying|i wanted to say] [hi|hello]; [hello|hi|hey]
        from [me|here|berlin|my desk]; [bonjour|guten tag|ciao] [bot|there]; are you there?; can you hear
        me?; anyone there?
        """,
        "heya there; well hello!; good day to you; hi hi; evening!; hey robot, good morning"),
        ["Hello! [How can I help?|What would you like to try?|Nice to see you. 😊]",
         "Hi there! 👋 [Ask me something small.|Try a sum, or ask me about this server.]",
         "Hey! [What can I do for you?|I am the demo model. Ask me anything small.]"], [r"hello|hi\b|hey"]),
    "how": (Phrases("""
        how are you[| today| doing| doing today]?; how's it going?; how do you feel?; are you
        [ok|well|fine|alright]?; what's up?; how are things?; how is your day?; sup; you good?; how have you
        been?; are you happy?; how [are|r] you [this morning|this evening|tonight|right now|my
        friend|bot|feeling|then]?; how [do you do|goes it|goes]?; how is [everything|life|it|your day|your
        morning|your evening|your week][| going| so far]?; how are things [with you|going|today]?; how have
        things been?; how was your [day|night|morning|weekend]?; what's [up|new|happening|going on][| with
        you| today| bot| buddy]?; [wassup|whats up|what is up|how do|hru|how ya doing|howdy, how are you]?;
        are you [having a good day|feeling well|feeling good|all right|fine|in a good mood|doing well|doing
        fine|okay][| today]?; [hope|i hope] you are [well|fine|ok|good]; [hi|hello|hey][|,] how are you[|
        doing| today]?; everything [ok|fine|good|all right][| with you]?; you [ok|alright|fine|doing well]?;
        is everything [ok|fine|all right]?; and you, how are you?; and you?; how do you feel [now|today|this
        morning]?; how are you holding up?; doing [well|good]?; feeling good?;
        [yo|hey|hi|sup|hello|ay][|,] [whats good|what's good|whats new|what's new|wassup|what's cooking|how u
        doing|how ya doing|hows it going|how's life|hows life|you alright|how's things|how are ya]; [whats
        good|what's good|whats poppin|what's cracking|how u doin|how you doin|how r ya|hows you|how's your
        day|hows ur day|you doing good|all well] [||bro|man|dude|today|buddy]?
        """,
        "how are you feeling today?; how is it going today?; hey what's up with you?; are you doing ok?"),
        ["I am fine, thank you! [How are you?|Everything is running.|All my layers are awake. 😊]",
         "I am fine, thanks. [And you?|Small, but in good spirits.]"], [r"fine"]),
    "im fine": (Phrases("""
        i'm [fine|good|ok|great|well|doing well|happy][| too| thanks| today]; [fine|good|very well], thanks;
        not bad; pretty good; i am [good|well]; all good; i feel great; [i'm|i am|im] [very |really |quite
        |pretty |]well[| thanks| thank you]; [i'm|i am] [very |really |quite |so |]happy[| today];
        [fine|good] [thanks|thank you|and you]; [i'm|i am] doing [great|fine|okay|very well|all right|ok];
        [i'm|i am] [excellent|fantastic|wonderful|excited|so so|all right|alright][| today| thanks]; [my|the]
        day [is|was] [good|great|nice|very good|wonderful]; i feel [good|fine|happy|very
        good|fantastic|better][| today| now]; i had a [good|great|nice|lovely] [day|week|time|morning];
        [very|really|quite] [well|good], [thanks|thank you]; can't complain; never better; [life is|things
        are|everything is|it is all] [good|great|fine|going well]; [could be worse|could not be better]; i'm
        good, [and you|how are you]?; today was [good|great|nice]; couldn't be better
        """,
        "i'm doing good, thank you; i am great today; doing fine; pretty well"),
        ["[Glad|Happy] to hear that! [What shall we try?|What would you like to do? 😊]"], [r"to hear that"]),
    "im sad": (Phrases("""
        i'm [sad|tired|bored|lonely|sick|stressed|not happy|unhappy|upset|angry][| today]; i feel
        [bad|sad|terrible|down|awful]; i had a bad day; today was terrible; i am bored; i am so tired; [i'm|i
        am|im] [so|very|really|a bit|pretty|quite]
        [sad|tired|bored|lonely|stressed|upset|angry|unhappy|sleepy| worried]; [i'm|i am]
        [depressed|exhausted|worried|nervous|afraid|scared|heartbroken|worn out|sleepy|ill|frustrated]; i
        feel [so|very|a bit|quite|pretty] [bad|down|tired|sick|sad|awful|low|alone|terrible][| today| now];
        [i|i do] not feel [well|good|so good][| today]; i [don't|do not] feel [well|good|so well]; [my|the]
        [day|week|morning] [was|is] [bad|terrible|horrible|very bad|hard|not good]; i had a
        [terrible|hard|long|awful|sad|rough] [day|week|night]; today [is|was] [a bad day|awful|horrible|not
        good]; i am feeling [sad|down|low|bad|sick|unwell]; i [cried|cry|can't sleep|failed|lost my job|lost
        my keys|am in a bad mood|have a cold|have a fever]; [nobody|no one] [likes|loves] me; life is
        [hard|hard today|sad]; i miss [her|him|my friends|home]; everything is [bad|awful|too much]; so
        [sad|tired|bored] [today|right now]; not so good; [feeling|i'm feeling] [bad|down|low|sick|so alone];
        i'm not [ok|well|fine|good]; [i'm|i am|im|i feel|feel] [kinda|kind of|sorta|sort of|a little|a little
        bit|rather|totally|super|still|just|low key]
        [sad|tired|down|bored|lonely|stressed|upset|angry|sick|low|unhappy|exhausted|worried|blue][| today|
        now| rn| tonight| lately]; kinda [sad|down|tired|bored|lonely] [today|now|rn|tonight]; [my day|this
        day|today|work] [sucks|sucked|was no good|is not going well]; [having|i'm having|im having] a
        [bad|rough|hard|terrible|sad] [day|time|week]
        """,
        "i feel really sad today; i'm feeling tired; my day was awful; i feel lonely"),
        ["I am sorry to hear that. [I hope it gets better soon. 🌻|A tiny model sends you a big wave. "
         "👋|Shall we try a sum, or a list, to pass the time?]"], [r"sorry to hear"]),
    "thanks": (Phrases("""
        thanks[| a lot| so much| very much| for that| for your help| bot| buddy]; thank you[| so much| very
        much| for your help| robot]; thx; many thanks; cheers; that helped, thanks; ty; [thank
        you|thanks|thank u|thanx|tysm|thnx|thx] [friend|buddy|a bunch|bot|for this|for the answer|for the
        help|for everything|for your time|for explaining|for answering|for trying]; [that|this]
        [was|is|helped] [a lot|very much|me], [thanks|thank you|thx];
        [great|nice|perfect|ok|cool|wonderful|super|awesome|lovely][|,] thanks;
        [ok|cool|nice|perfect|wonderful|super|awesome][|,] thank you[| so much| bot]; thanks, [that's
        all|that helped|bot|i appreciate it|you were helpful|great answer]; [i appreciate it|much
        appreciated|much obliged|i am grateful|i thank you|thank you kindly|a big thank you|thanks a
        million|thanks a ton]; thank you for [everything|the answer|answering|explaining|the help|your
        time|being here]; you [were|are|have been] [helpful|very helpful|a great help][, thanks|, thank you];
        [this|that|it] was [very |really |so |]helpful; that [helps|helped][| a lot| me]; you helped me[| a
        lot| very much]; thanks [man|mate|dear|little bot|very very much]; merci; danke; gracias
        """,
        "thank you, that was helpful; great, thank you; thanks again; thanks for helping me"),
        ["You are welcome![| 😊| Anything else?]", "[Any time!|With pleasure!] You are welcome."],
               [r"welcome"]),
    "bye": (Phrases("""
        [bye|goodbye|bye bye|see you|see you later|good night|farewell|see ya|later|cya]; [i have to go|i
        must go|i'm leaving|i need to go][| now| bye]; talk to you later; have a nice day; i'm off, bye;
        goodbye, [robot|friend]; [bye|goodbye|see you|good night|so long|take care|see ya|ciao|adios|cheerio]
        [bot|robot|friend|then|now|everyone|for now|for today|my friend]; see you [soon|around|next
        time|again|next week|in a while|on monday|then]; [i have to|i must|i need to|i should|i
        will|i'll|gotta|time to] [go|go now|leave|leave now|run|sleep|go to bed|work]; [i'm|i am]
        [going|leaving|off to bed|off|done|out|logging off|going home|going to bed|going to sleep][| now|
        bye]; [until|till] [next time|tomorrow|later|then]; [have|enjoy] [a good|a great|a lovely|the rest of
        your|a nice] [evening|weekend|night|one]; talk [soon|to you soon|to you tomorrow|again soon]; catch
        you later; [that's all|that was all][|,] bye; [bye|goodbye][|,] [and thanks|have a good day|take
        care|see you|bot]; [thanks|ok|well|alright][|,] [bye|goodbye|see you|good night]; it's late, good
        night; [sleep well|sweet dreams|nighty night|night|night night|gn|brb|ttyl|gtg|g2g]; i'll be back[|
        later| tomorrow| soon]; farewell [bot|friend]; time to say goodbye; peace out; nice talking to you,
        bye
        """,
        "ok bye for now; see you tomorrow; good night, talk later; i am going now, goodbye"),
        ["Goodbye! [Come back any time. 👋|It was nice talking to you.|See you!]",
         "Bye! [Have a nice day. 👋|See you soon!] Goodbye."], [r"bye"]),
    "praise": (Phrases("""
        you are [great|good|smart|cool|awesome|amazing|nice|funny|cute|the best|clever];
        [good|great|nice|well] [job|work|done|answer|one]; i like you; i love you; that's
        [great|right|correct|cool|amazing|nice]; [wow|awesome|perfect|excellent|amazing|impressive]; you're
        good at this; correct!; you [are|were] [so|very|really|pretty|quite]
        [good|smart|clever|cool|nice|funny|cute|sweet|fast|kind|helpful]; you are [a genius|a star|my
        favourite|a good bot|a nice bot|a clever bot|wonderful|brilliant|perfect|fantastic|adorable|lovely|
        very good at this|right|correct]; [good|great|nice|clever|smart|sweet] [bot|robot|model|boy|girl];
        [this|that|it] is [great|amazing|cool|awesome|very good|really
        good|impressive|brilliant|right|perfect|so cool]; [that's|that was] [very|really|so|pretty]
        [good|nice|cool|impressive|clever|smart]; [that|your answer|the answer|it] [is|was]
        [correct|right|good|perfect|great]; i [like|love] [this bot|this model|this demo|it|your answer|your
        answers|talking to you|what you do]; [well done|bravo|nice one|good one|excellent job|fantastic
        job|superb|brilliant|fantastic|wonderful|lovely|great|love it|so cool|very good|very nice|not bad at
        all][| bot| robot]; [wow|oh wow][|,] [that's|that is|this is] [great|cool|amazing|good|impressive];
        [wow|oh wow][|,] [great|amazing|nice|cool|correct]; [exactly|that's it|spot on|yes, correct|yes,
        that's right|right answer|good answer|100 points]; you [did|got] [it|it right|well|great]; you made
        my day; you know a lot; you impress me; i am [impressed| amazed|proud of you]; you rock; what a
        [good|nice|clever|great] [bot|answer|model]; so [smart|clever|cute|fast]; keep it up; you're
        [great|right|funny|amazing|so nice|the best|cute|smart]; [high five|👍👍|❤️|👏]
        """,
        "wow, you are clever; you are really nice; great work, bot; that is correct, nice; i love this"),
        ["Thank you! [That is kind. 😊|I do my tiny best.|That makes my weights happy.]"], [r"thank you"]),
    "insult": (Phrases("""
        you are [bad|dumb|stupid|wrong|useless|terrible|boring|annoying|slow|silly]; that's [wrong|not
        right|incorrect|bad|false]; [no|nope], that is wrong; i hate you; you made a mistake; bad
        [bot|robot|answer]; wrong[| answer]; you are not [smart|good|right]; this is bad; you [are|were]
        [so|very|really|pretty|quite|too] [bad|dumb|wrong|useless|slow|boring|annoying|silly|stupid at this];
        you are [an idiot|a bad bot|a stupid bot|not good at this|no help|no good|not
        helpful|worthless|trash|garbage|rubbish| lying|a liar|crazy|broken|mistaken|incorrect];
        [that|this|it|your answer|the answer] [is|was] [wrong|false|incorrect| not right|not true|nonsense|a
        mistake|stupid|a lie|not what i asked|not what i meant|terrible|rubbish|garbage]; [that's|it's]
        [nonsense|not true|not correct|a mistake|a lie|stupid|not what i asked|not what i wanted|a bad
        answer|completely wrong|so wrong]; [no|nope|nah|um|well][|,] that's [wrong|false|incorrect|not
        right|not true]; [no|nope][|,] [wrong|you are mistaken|it isn't|it is not|not correct]; i [hate|don't
        like|dislike] [you|this|this bot|this model|your answer|that answer]; you [made an error|got it
        wrong|got that wrong|lied|failed|lied to me|did not answer|didn't answer|don't understand|understand
        nothing|know nothing|suck|can't count|can't do anything|forgot it|never listen];
        [stupid|dumb|silly|useless|bad|terrible|wrong] [model|bot|robot|machine|answer|thing]; [shut up|go
        away|boo|nonsense|rubbish|garbage|incorrect|false|not true|not right|try again,
        wrong|terrible|awful|bad]; what [a stupid|a bad|a useless|a dumb] [bot|answer|model|thing]; why was
        that wrong?; this is [wrong|useless|terrible|stupid|boring|garbage]; you're
        [wrong|dumb|useless|stupid|bad at this|not helpful|no good|so slow]
        """,
        "that was a wrong answer; you are so stupid; no, you are wrong; that is not correct"),
        ["Sorry about that! [I am only a tiny demo model, and I make mistakes.|A model this tiny makes "
         "mistakes.]"], [r"sorry", r"tiny"]),
    "ok": (Phrases("""
        [ok|okay|cool|alright|sure|fine|i see|got
        it|yes|yeah|yep|hmm|nice|lol|haha|right|interesting|understood|aha|oh]; ok[|,] [cool|great|good];
        that makes sense; oh[|,] i see; ha ha; good to know;
        [ok|okay|alright|fine|cool|sure|right|good|nice|great][|,] [i see|got it|then|i
        understand|understood|fine|okay|so| sounds good]; [k|kk|okey|okie|okay okay|ok
        ok|okidoki|roger|noted|agreed|deal|indeed|true|fair|fair enough|of course|
        certainly|absolutely|exactly so|mhm|mm|uh huh|huh|hm|ah|oh ok|oh okay|oh nice|oh cool|ah i see|ah
        okay|ah nice|ah right|wow ok|hehe|hihi|ha|lmao|rofl|yup|ya|yes yes|yes please|yes sure|sure thing|why
        not|maybe|perhaps|so what|i guess|i think so|makes sense|sounds good|no problem|no worries|good|very
        well|all clear|clear|as you wish|if you say so]; i [get it|understand|see now|see that|got it|knew
        that|know|know that|believe you|agree|think so too]; that's
        [ok|fine|clear|fun|okay|interesting|funny|good to know]; [that is|this is|how]
        [interesting|funny|fine with me|fun|clear now]; [interesting|funny| good|nice][|,] [ok|thing|to
        know]; [lol|haha|hehe] [ok|that's funny|good one|funny|yes|cool]; 👍; 😀; 😂; 🙂; ok
        [bot|robot|friend|👍]; let's [go|go on|continue|see]; [go on|continue|next|carry on];
        [yes|yeah|yep][|,] [ok|sure|right|i know|of course|that's it|i see]
        """,
        "alright then; ah ok; okay, got it; haha nice"),
        ["👍 [What next?|What would you like to try next?|Ask me something else if you like.]"], [r"👍"]),
    "no": (Phrases("""
        [no|nope|nah|no thanks|no thank you|nothing|never mind|not now|forget it|stop]; that's all; nothing
        else; no, that is all; i don't know; [no|nope|nah|naah|no no|not really|not today|not yet|rather
        not|i'd rather not|no way|no need|not needed|nothing really| nothing for now|nothing at the
        moment|nothing today|later maybe|maybe later|some other time|leave it|skip it|skip|cancel|wait|wait a
        moment|one moment|hold on|enough|that's enough|that is enough|that's it for now|that will be all|that
        would be all|i'm done here|drop it|forget about it|doesn't matter|it does not matter|it's
        nothing|don't worry|not interested]; [no|nope|nah][|,] [i'm good|i'm fine|it's fine|that's ok|it's
        ok|thanks|not yet|not really|leave it|that was all|don't|stop|i don't think so|nothing more|never
        mind]; i [don't want|don't need] [anything|that|anything else|this|more]; i have [nothing|no more
        questions|no questions|no other question]; no [more|further|other] [questions|wishes|thanks]; i
        [have|got] no idea; i don't [care|think so|want to|want that|have a question]; i'm not sure; no idea;
        dunno; idk; not sure; i changed my mind; that's everything; nothing, [thanks|really|never mind]
        """,
        "no, nothing else; nah, not now; no thanks, that's all"),
        ["[All right|No problem]. [I am here if you need me.|Just type when you want something.]"],
           [r"all right|no problem"]),
    "joke": (Phrases("""
        tell me a joke; [do you know|know] [any|a good|some] [jokes|joke]?; make me laugh; say something
        funny; another joke; a joke please; <can> tell [me |]a joke?; be funny; i want to hear a joke; joke;
        [tell|give|read|write] [me|us] [a|one|another|one more|some|your best|a short|a funny|a good|the
        best|a new|a silly] [joke|jokes]; [any|another|more|one more|some] [joke|jokes][| please]?; [do you
        have|have you got|you have|you know|know|got] [a good|any funny|any good|another|some|one more|any
        more] [joke|jokes]?; i [want|need|would like|would love] [a|another|a good|one more|some]
        [joke|jokes|laugh]; [can you|could you|will you|would you] [tell|make|do] [us |me |][a|another|one
        more|a funny|a good] joke?; [make|can you make|could you make|try to make] me [laugh|smile|giggle];
        [say|write|tell] [something|anything] [funny|hilarious|silly| witty]; are you [funny|able to
        joke|good at jokes]?; [can|could] you [joke|be funny|make jokes|say something funny|make me laugh]?;
        do you [know|tell|make] [jokes|funny things|something funny|funny stories]?; [jokes|funny|joke time|a
        joke|the best joke|joke of the day|tell joke|a good joke][|?|!]; let me hear a [joke|good one|good
        joke]; what is [your best|the best|a good|a funny] joke?; how about a [joke|good joke|little joke]?;
        amuse me; entertain me; i want to laugh; cheer me up[| with a joke]; you must know a joke; which
        jokes do you know?; something funny[|, please]; crack a joke; do a joke
        """,
        "got any jokes for me?; i'd like a joke; please tell me something funny; do you have a joke?"),
        ["Why did the tiny model cross the road? [It predicted the other side.|The other side was the most "
         "likely next token.] 😄",
         "What do you call a very small language model? A short story. 😄", "I know a joke about attention, "
                                                                           "but you would have to look back "
                                                                           "for it. 😄"], [r"😄"]),
    "fun fact": (Phrases("""
        tell me a [fun |random |]fact; tell me something interesting; do you know a fun fact?; give me a
        fact; say something interesting; teach me something; surprise me; <can> tell me something new?; i
        want a fun fact; [tell|give|show|teach] [me|us] [a|one|another|one more|some|an interesting|a
        strange|a cool|a surprising|your best] [fun |random |]fact; [any|another|more|one more] [fun
        |interesting |random |]fact[|s]?; [do you know|do you have|have you got|you know|know]
        [a|another|some|any] [fun|random|interesting|cool] fact[|s]?; [fun fact|random fact|fact|facts|fun
        facts|a fact|fact of the day|a fun fact|interesting fact][|?|!| please]; i [want|need|would
        like|would love] [a|another|to hear a|to hear some] [fun| interesting|random] fact[|s];
        [tell|teach|show] me something [cool|fun|new|strange|surprising|i don't know|amazing|i did not
        know|random]; say something [new|cool|surprising|clever|smart|random]; [can you|could you|would you]
        [tell|give|teach] me [a|some|one more|another] [fun|interesting|random|cool] [fact|facts]?; [what
        is|what's] [a|your best|an interesting|a good|one] [fun |random |]fact?; what [fun|interesting] facts
        do you know?; did you know?; [i want to|let me|i'd love to] learn something[| new]; how about a [fun
        |random |]fact?; something interesting[|, please]; which fun facts do you know?; amaze me; astonish
        me; tell me anything
        """,
        "got a fun fact for me?; know any interesting facts?; please teach me a fun fact"),
        ["Fun fact: [honey does not spoil.|an octopus has three hearts.|a day on Venus is longer than its "
         "year.|bananas are berries, but strawberries are not.]"], [r"fun fact"]),
    "likes": (Phrases("""
        do you [like|love|enjoy]
        [music|pizza|cats|dogs|chess|people|me|games|coffee|art|football|movies|books]?; what do you like?;
        what is your <fav> [colour|color|food|song|movie|book|animal|band|game]?; do you have [hobbies|a
        hobby|friends|a family|a favourite]?; are you hungry?; what do you eat?; do you sleep?; what are you
        doing?; do you dream?; do you [really |also |even |] [like|love|enjoy|hate|prefer]
        [tea|dogs|animals|sports|chess|reading|humans|jokes|maths|numbers|flowers|rain|summer|winter|
        cake|ice cream|chocolate|your job|your life|this|dancing|jazz|travel|cooking|football|the
        sea|sushi|cheese|them|it]?; [do you like|do you prefer] [tea or coffee|cats or dogs|dogs and
        cats|summer or winter|books or films|music and art|pizza and pasta|cats and dogs|red or blue]?; [what
        is|what's|whats|which is|tell me] your <fav>
        [movie|food|number|book|sport|place|season|drink|country|city|day|word|language|fruit|thing|joke|
        hobby|person|artist|singer]?; [what|which]
        [colour|food|music|movies|books|animals|games|sports|films] do you [like|love|enjoy|prefer]?; what do
        you [like to do|do for fun|like best|love|enjoy|hate|dislike|do all day|do in your free
        time|drink|have for breakfast|want|wish for|read|watch|dream of|dream about| think about]?; do you
        [have|have got] [a pet|pets|a cat|a dog|a wife|a husband|a girlfriend|a
        boyfriend|children|kids|brothers|a hobby|free time|a family|a life|a favourite colour|a favourite
        food|any hobbies|any friends|a job|a car|a house|dreams|fun|favourites]?; are you
        [thirsty|tired|married|single|in love|bored|busy|sleepy|lonely|hungry|awake|asleep][| now| today]?;
        [do|can] you [eat|drink|sleep|dream|dance|sing|play chess|play games|cook|swim|travel|read
        books|watch movies|listen to music|get tired|get bored|laugh|play football|rest]?; do you ever
        [eat|dream|get bored|get tired|go out|rest|take a break]?; what did you [do|eat|dream]
        [today|yesterday|last night]?; are you [doing anything|having fun|enjoying this|watching tv|eating]?;
        who is your [best friend|friend|favourite person|girlfriend|favourite singer]?; will you marry me?;
        do you [love|like] [me|us]?; what are your [hobbies|interests|dreams|wishes|plans|plans for today]?;
        what makes you [happy|sad|laugh]?; when do you [sleep|eat|rest]?; where do you sleep?; have you
        [eaten|slept|seen a film|read a book][| today]?; do you wish for anything?; is there anything you
        like?
        """, """
        what's your <fav> movie?; do you enjoy a coffee?; do you like chess and music?; do you ever sleep?
        """),
        ["I am a program, so I do not [really |]have likes or a life. [But numbers are nice.|I do enjoy the "
         "next token, in a way.|But I am here when you type.]"], [r"program"]),
    "help": (Phrases("""
        help[| me]; i need [help|some help]; <can> help me?; what should i ask?; what [can|should|shall] i
        [try|do|type|say]?; give me an example; what now?; any ideas?; i don't know what to ask; where do i
        start?; how does this work?; [help|please help|please help me|help me please|i need your help|i need
        some advice|help needed|sos|help!|can i get some help|could i get help|a little help|/help me];
        [i'm|i am] [lost|stuck|confused|new here|new to this|not sure what to do|not sure what to type|a
        beginner]; what [should|can|could|shall|might] i [try|do|type|say|write] [first|next|now|here|to
        you|then]?; what [should|shall] i ask[| you| next| first| here]?; [give|show|tell] me [some|a
        few|an|two|more] [examples|ideas|example|suggestions|hints|tips|things to try|example questions];
        [any|some|more|got any|do you have any] [ideas|tips|hints| suggestions|examples|example
        questions][|?| please| for me?]; [for example|an
        example|examples|example|suggestions|ideas|hint|tip][|?|!]; i [don't|do not] know what to
        [ask|do|try|say|type|write][| you| now| next| here]; what [is|would be] [a good|an example]
        [question|thing to ask|first question|prompt]?; how [do|should] i [start|use you|use this|talk to
        you|talk to this bot|use this bot|get started|chat with you]?; how does this
        [bot|chat|demo|page|thing|chatbot] work?; what do i [do now|do here|type|say|write|do next]?; where
        [should|can|do] i [start|begin]?; [suggest|recommend] [something|something to try|a question|a
        prompt]; [can|could|will|would] you [help|help me|give me a hand|help me out|give me an example|give
        me a hint|suggest something] [|please|now|here|with something]?; i [want|would like|need] [an
        idea|some ideas|an example|some examples|a hint|help|suggestions]; what would you
        [suggest|try|ask|recommend]?; what do [people|others|most people] [ask|ask you|type|try]?; how do i
        use [this|you|this chat|the chat|this page]?; instructions; manual; tutorial; what's [a good
        question|next to try|worth trying]?; show me [how to use this|how this works|what to type|what to
        try|what to ask]; i'd like some [ideas|help|examples|hints|suggestions]; tell me what to
        [try|type|do|say|ask]
        """, """
        can you please help me?; what could i try here?; i have no idea what to ask; give me some ideas what
        to ask
        """),
        ["Try one of these:\n\n- a sum: `12 * 34`\n- letters: how many r's are in strawberry?\n- this "
         "server: what does `--port` do?\n- memory: tell me your name and ask me later\n- a list, a table "
         "or an emoji 🙂"], [r"try one of these"]),
    "news": (Phrases("""
        i have [a|two|three] [cat|dog|cats|dogs|children|kids|cars|plants]; i went to the
        [park|beach|cinema|school|doctor|shop]; it is [raining|sunny|cold|late|hot|snowing]
        [here|today|outside]; we had [dinner|lunch|pizza|a party]; i [saw|bought] a [new|nice|big]
        [film|car|house|bird|book]; my [computer|phone|car] is [new|old|slow|broken]; i [hate|don't like]
        [mondays|rain|spiders|winter|work]; i am [learning|reading|cooking|working|testing you|trying this
        server]; i can [swim|dance|sing|cook]; [i|we] have [a|one|two|three|four|many|no]
        [cat|dog|cats|dogs|children|sons|daughters|bikes|cars|fish|birds| rabbits|books]; [i|we] have
        [a|two|three] [cat|dog|cats|dogs|son] and [a|two|three] [bird|daughter|rabbit|fish|horses|hamster];
        [i|we|my friend|my mother] [went|drove|walked] to [the|a]
        [zoo|beach|museum|lake|office|gym|library|mall|market|forest| restaurant|concert][| yesterday| today|
        last week| with friends]; it [is|was] [very |so |really |quite |a bit
        |][rainy|sunny|cold|warm|hot|windy|cloudy|late|early|dark|foggy][| here| today| outside| now]; the
        [sun|weather|sky] is [shining|nice|bad|cold|great|grey][| today| here]; it's
        [raining|snowing|sunny|cold|nice outside|monday|friday|late|my birthday|the weekend]; [i|we]
        [had|ate|made|cooked] [a nice|a good|a big|some]
        [breakfast|lunch|soup|cake|meal|party|salad|evening][| today| yesterday| with friends]; [i|we]
        [bought|saw|got|found|sold|lost|read|watched] [a|an old|a new|a nice|a great|a small|the]
        [film|car|house|bird|book|laptop|bike|camera|shirt|tv|game|computer|table|coat|watch][| today|
        yesterday]; my
        [computer|phone|car|laptop|bike|house|garden|room|tv|boss|neighbour|mother|father|child|son] is
        [new|old|slow|broken|nice|great|big|small|loud| here|happy|sick|asleep]; i [hate|don't like|can't
        stand|really like|do not like] [mondays|rain|spiders|winter|work|noise|queues|my job|my neighbour|my
        school|snow|traffic|exams|cold weather|getting up early|my old phone]; [i am|i'm|we are] [learning to
        code|reading a book|cooking dinner|working|at home|at work|on the train|in bed|on holiday|watching
        tv|eating|having lunch|drinking tea| waiting|building a server|trying this model|training a model|at
        school|moving to a new house|late for work]; i can [swim|dance|sing|cook|ride a bike|drive|play the
        piano|fly a plane|speak french]; i [passed my exam|won a prize|got a new job|got married|am getting a
        dog|have a new job|have a day off|have an exam tomorrow|work a lot|slept well|woke up late|play the
        guitar|go running every day|live alone]; my [team|son|sister|brother] [won|passed the exam|got
        married|is visiting]; today i [worked|went out|read a book|stayed at home|met a friend|learned
        something]; tomorrow i [go|fly|drive|move] [to work|home|to the sea|away]
        """, """
        i have two dogs and a cat; i went to the cinema today; it is sunny here today; we had a nice dinner;
        i bought a new phone; i don't like my boss
        """),
        ["I see! Thank you for telling me.[| What can I do for you?| 🙂]"], [r"telling me"]),
}

IDENTITY = {
    "who": (Phrases("""
        [who|what] are you[| exactly| really| then]?; [tell me|say something] [about yourself|who you
        are|what you are]; who am i [talking|speaking|chatting|writing] [to|with]?; what is this?; introduce
        yourself; <whats> your name?; do you have a name?; are you [a bot|a robot|a machine|a computer|a
        program|an ai|a chatbot|a model|a language model]?; what [kind|sort|type] of
        [model|bot|ai|thing|program] are you?; what [do|should] i call you?; describe yourself; which model
        [is this|are you|am i using|is running|is loaded]?; what model [is this|are you]?; your name?; who is
        this?; who's there?; what is this [demo|model|thing|bot]?; are you the demo model?; who [are|r]
        [you|u]; <tell> who [<youare>|i am talking to|i am speaking with|i am chatting to|this is|answers
        me|is there|is answering]; <tell> what [<youare>|this is|this thing is|this bot is|i am talking to];
        <tell> what [you are called|your name is|i should call you|kind of bot you are|kind of model this
        is|type of model you are|sort of program this is]; [tell me|say] [something|a bit|a little|more|a few
        words] about [yourself|this bot|this model|you]; who [are you really|are you again|is it|is
        talking|is answering me|answers here|am i speaking with|do i talk to]?; what [are|r] [you|u]?; what
        exactly [are you|is this|is this thing|is this bot]?; so who are you?; so what are you?; [what|who]
        is [this|this bot|this model|this chatbot|the bot here|the model here|answering]?; [what|who] is
        <bot>?; [do you have|have you got|what about|is there] a name?; [what is|what's|whats|tell me|say]
        [your|ur|the bot's|this model's|this bot's] name?; what [are you called|do people call you|can i call
        you|is the name of this model|is the name of this bot|is this model called|is this bot called]?; how
        [are you called|should i call you|do i call you]?; are you [an ai model|a language model|a computer
        program|some kind of ai|a robot or a person|an assistant|a demo|a demo model|just a demo|a
        toy|software|artificial|an algorithm|a neural network|a transformer]?; is [this|it] [a bot|a robot|an
        ai|a program|a language model|a machine|the demo|the demo model|a demo|a chatbot|a toy model]?; which
        [model|bot|ai] [are you|is it|is loaded here|am i talking to|do i talk to|answers|is answering|is
        behind this page|am i speaking to|is behind this]?; what model [am i using|is running here|is
        answering|is behind this page|do i talk to|is loaded here|is this exactly]?; what [kind|sort|type] of
        [ai|bot|thing|chatbot|language model|assistant] is this?; [present|introduce|describe|identify]
        [yourself|this model|this bot|you]; [your name|ur name|name|model name|who|who you|who r
        u|identity|about you|about yourself|which model|what bot|who dis][|?]; i [don't know|do not know|want
        to know|wonder|would like to know] [who you are|what you are|who i am talking to|what this is|which
        model i am using]; have we met?; let's get to know each other; we have not met, who are you?; you are
        a [bot|robot|program|model], [right|aren't you]?; [whats|what's|what is|wats] [ur|your] name [btw|by
        the way|again|though|pls|tho|then|anyway|bro|my friend]?; [btw|by the way|and|hey|yo|ok|oh]
        [whats|what's|what is] [ur|your] name?; [do|did] [u|you] [have|get] a name [btw|too|yet|at all]?;
        [who|what] r u [btw|really|exactly|tho|then]?; [ur|your] name [btw|pls|is]?
        """, """
        who exactly am i chatting with?; could you introduce yourself?; what sort of machine are you?; tell
        me which model you are; what's your name, bot?; who is this bot?
        """),
        ["I am [the|a] tiny demo model [of this server|that comes with this chat server]. I was trained on "
         "generated conversations, so that you can try the server [at once|before you have a model of your "
         "own].",
         "I am a tiny demo model: 3.4 million parameters, trained on generated "
         "conversations, shipped so that you can try this server."], [r"tiny demo model",
             r"generated conversations"]),
    "chatgpt": (Phrases("""
        are you [chatgpt|gpt|gpt-4|claude|gemini|llama|openai|siri|alexa|a real ai|a large language model|a
        big model|deepseek|mistral]?; is this [chatgpt|gpt|claude|gemini|llama]?; are you [like|based on|the
        same as|better than] [chatgpt|gpt-4|claude|llama|gemini]?; do you use [openai|chatgpt|gpt|an api]?;
        are you made by [openai|google|meta|anthropic|microsoft]?; am i talking to
        [chatgpt|claude|gemini|gpt]?; [are|r] [you|u] [chatgpt|chat
        gpt|gpt|gpt-3|gpt-5|gpt4|claude|gemini|llama|bard|copilot|siri|alexa|cortana|
        grok|mistral|qwen|deepseek|bing|watson|perplexity]; is [this|it|this bot|this model|this demo|the
        demo model] [chatgpt|chat
        gpt|gpt|gpt-3|gpt-5|claude|gemini|llama|bard|copilot|grok|mistral|qwen|deepseek|openai]; [is this|are
        you|is this model|is this bot] [like|similar to|related to|based on|a version of|a copy of|as good
        as|as smart as|better than|bigger than|smaller than|the same as|worse than|made by the people of]
        [claude|gpt|gpt-4|llama|gemini|grok|mistral|openai's models|google's models|bard|deepseek]?; do you
        know [chatgpt|claude|gemini|siri|alexa|gpt-4|llama]?; [are you|is this|is this model|were you|is this
        bot] [made|built|trained|created|run|owned|developed] by
        [openai|google|meta|anthropic|microsoft|apple|amazon|mistral|deepseek|elon musk|sam altman]?; [am
        i|are we] [talking|speaking|chatting] [to|with] [chatgpt|claude|gemini|gpt-4|llama|siri|alexa|an
        openai model|a google model]?; do you [use|call|ask] [chatgpt|gpt-4|claude|openai's api|the openai
        api|an openai model|llama|gemini][| for this| in the background]?; [you are|you're|this is|so this
        is|are you not|aren't you] [chatgpt|claude|gemini|gpt-4|llama|siri][, right|][|?]; which gpt [are
        you|is this]?; what [version of gpt|gpt version|gpt] [are you|is this]?;
        [chatgpt|claude|gpt-4|gemini|llama|gpt|siri]?; compare yourself [to|with]
        [chatgpt|gpt-4|claude|llama]; how do you compare [to|with] [chatgpt|gpt-4|claude|gemini]?; [what
        is|what's] the difference between you and [chatgpt|claude|gpt-4|gemini]?; [are you|is this] [an llm
        like chatgpt|a real llm|a frontier model|a proper ai]?; is there [gpt|chatgpt|claude|an openai model]
        [behind this|in here|behind this page]?; does this [use|run on] [chatgpt|gpt-4|claude|openai|llama]?;
        <tell> [if|whether] you are [chatgpt|claude|gemini|gpt-4|llama]; hey [siri|alexa|chatgpt|claude]
        """,
        "so you are chatgpt?; is this model gpt-4?; are you a kind of claude?; is this like chatgpt?"),
        ["No. I am a tiny demo model [in nanochat's format|that comes with this server], [far smaller than "
         "those|thousands of times smaller than those]. I was trained on generated conversations only."],
                [r"^no", r"tiny demo model"]),
    "human": (Phrases("""
        are you [human|a human|a person|real|alive|a real person|conscious|sentient|a man|a woman|a boy|a
        girl|self aware]?; do you have [feelings|emotions|a body|a brain|a soul|a heart|parents]?; how old
        are you?; where do you live?; where are you?; is there a [human|person|real person]
        [here|there|behind this]?; am i talking to a [human|person|real person]?; can you [feel|think|feel
        pain]?; when were you born?; are you male or female?; [are|r] [you|u] [a real human|a living being|a
        human being|a living person|a real man|a real woman|human or machine|a man or a woman|a boy or a
        girl|living|awake inside|self-aware|alive or not|a child|an adult|male|female|dead|an animal| an
        alien|human or a bot|somebody|someone real]; is [this|it|that] a [person|real person|human
        being|man|woman|human or a bot|living person]?; is [there|] [a human|someone|somebody|a
        person|anybody real|a man] [answering|typing|writing this|on the other end|on the other side|reading
        this|behind the screen|in there]?; [do you have|have you got|have you|do you possess] [feelings|a
        soul|a mind|consciousness|a heart|a body|a face|hands|eyes|an age|a gender|a birthday|a mother|a
        father|parents|blood|free will|legs|an opinion|a personality|real feelings|a conscience|a brain]?;
        can you [feel|see|smell|taste] [me|things|pain|love|anything|happy|joy|fear]?; [can you|do you]
        [really |] [think|feel|think for yourself|feel anything|feel love|understand|understand me|understand
        what you say|know that you exist|suffer|fear death|die|love]?; [are you|is this model|is this bot]
        [conscious|sentient|alive|a person|human|self aware|a real person|a human]?; [how old|what age] [is
        this bot|is this model|r u|are u|might you be]?; [what is|what's|whats|tell me] [your|ur]
        [age|gender|birthday|birth date|date of birth|sex|home town|address]?; when [is your birthday|did you
        come to life|will you die|were you alive]?; where [do you live|are you|are you living|are you right
        now|is your home|is your body|do you stay|did you grow up|were you born]?; <tell> [whether|if] you
        are [human|alive|a person|real|conscious|sentient]; <tell> [how old you are|where you live|when you
        were born]; in which [city|country|year] [do you live|were you born|are you]?; [human|real
        person|alive|your age|age|gender|human or bot|real|sentient|feelings][|?]; [you are|you're] [human|a
        human|a person|alive|a real person][|, right|, aren't you]?; am i [talking|
        chatting|speaking|writing] [to|with] [a machine or a human|someone real|a living person|a man|a
        woman|somebody]?; who is [typing|sitting there|behind the keyboard]?; does it hurt?; are you afraid
        of [death|me|the dark]?; do you exist?; are you a he or a she?; [can|could|do] [you|u]
        [actually|really|even|truly|honestly] [think|feel|understand|reason|understand me|feel things|feel
        pain|have feelings|think for yourself|know what you say]?; [are|r] [you|u]
        [actually|really|even|truly] [thinking|human|a person|real|conscious|sentient|feeling anything]?; do
        [you|u] [actually|even|really] [have feelings|have emotions|feel|have a brain|exist|live]?; is there
        any [thinking|thought|feeling] in you?
        """, """
        is this a real human?; are you really alive?; do you have any emotions?; can you think and feel?; how
        old are you, bot?
        """),
        ["No human here: I am a tiny demo model, a small program [without feelings or age|that predicts the "
         "next token]."], [r"tiny demo model"]),
    "trained": (Phrases("""
        how were you [trained|made|built|created]?; what were you trained on?; what [data|training
        data|dataset] [did you learn from|were you trained on|was used|do you know]?; how did you learn[|
        this| to talk]?; how [long|much] did your training take?; where does your knowledge come from?; [tell
        me|explain] how you were [trained|made]; which data were you trained with?; what is your training
        data?; which script made you?; can i train you again?; how can i reproduce you?; <how> train
        [you|this model|the demo model]?; how [did you get|did you become|did they get] [trained|to know
        this|so far|here]?; how [<was>|did they|do you get] [trained|taught|made into a model]?; how was
        [<bot>|your model] [made|built|created|produced]?; <tell> how [<youwere>|this demo was|they]
        [made|trained|built|created]; <tell> what [<youwere>|the model was] trained [on|with|from]; <tell>
        [where|how] [you learned this|you learned to talk|you got your knowledge|your data comes from]; what
        [data|texts|text|books|corpus|dataset|datasets| material|conversations|examples] <was> [trained
        on|trained with|taught with|fed with|made from]?; [which|what] [data|dataset|corpus|texts|books] [did
        you|did this model|did they|do you] [train on|learn from|read|see|use|use for training|train with]?;
        <your> [training data|training set|dataset|training corpus|training][|?]; [what|which|what kind of]
        [is in|data is in|text is in] [your|the] [training data|training set|dataset]?; where [does|did]
        [your|the] [training data|data|training set|dataset|knowledge] come from?; [did you|have you|did this
        model] [read|learn from|train on|see] [books|wikipedia|the internet|the web|reddit|real
        conversations|any books|a corpus|real people's chats]?; <was> trained on [books|wikipedia|the
        internet|real data|chats|web pages|real conversations|synthetic data|a corpus|generated data]?; how
        [long|many hours|much time] [did|does] [your training|the training|training|it take to train
        you|training you] [take|last|need]?; how [long|many hours|much time] does it take to
        [train|make|build] [you|this model|the demo model]?; on what [hardware|machine|computer|gpu|cpu]
        <was> trained?; which [script|program|file|code] [trains|trained|makes|builds|generates] [you|this
        model|the demo model|the data]?; [what|which] script [was used|do i run] to train [you|this model]?;
        <how> [retrain|rebuild|reproduce|recreate|make|build] [you|this model|the demo model|this demo]?; can
        i [retrain|rebuild|reproduce|recreate|train] [you|this model|the demo model|it again]?; how
        [much|many] [data|examples|tokens|conversations| text] <was> trained on?; [what|which]
        [method|algorithm|optimizer|training] was used[| to train you| for you]?; [who|what] taught you [to
        talk|this|that|english|your words]?; where did you learn [this|that|to talk|english|to count|to
        speak|all this]?; how do you know [this| that|all this|things|the capitals]?; [trained on|trained
        how|training|corpus|dataset|data source|training script|training time|train you][|?]; explain [your
        training|the training|the training data|how you learned]; how [did|do] you learn [to speak|to
        answer|english|your answers|to chat|things]?; [is|was] your [data|training data|training set]
        [real|generated|synthetic|public|open|from the web]?; your training took how long?
        """, """
        what did they train you with?; on which data were you trained?; tell me about your training; how was
        this model trained?; what is the training data of this model?
        """),
        ["I was trained by `demo/train.py` on generated conversations: word lists and a grammar, no corpus. "
         "It takes [less than|under] an hour on two CPU cores."], [r"demo/train\.py",
             r"generated conversations"]),
    "size": (Phrases("""
        how [big|large|small|tiny] are you?; how many [parameters|params|weights|layers] [do you have|are in
        you|are there]?; what is your [size|parameter count|architecture|model size]?; what size are you?;
        number of parameters?; are you [big|large|small|tiny]?; how many megabytes are you?; what
        architecture [are you|do you use]?; how much [memory|space] do you [need|take|use]?; what is your
        context [length|size]?; how long is your [context|memory]?; how
        [big|large|small|tiny|heavy|deep|wide] [is <bot>|<are>|r u|is it|is the model|are your weights|is
        your network|is your file|is the model file]?; <tell> how [big|large|small|tiny|deep] [<youare>|the
        model is|your network is]; <tell> [how many|the number of] [parameters|params|weights|layers]
        [<have>|you have|there are|it has|this model has]; how many
        [parameters|params|weights|layers|heads|tokens|neurons|dimensions|billion parameters|million
        parameters|attention heads|numbers] [<have>|do u have|has this model|has the model|has it|does it
        have|are in this model|are there in this model|are you made of|in you|in this model|do you consist
        of]?; <your> [size|parameter count|param count|number of parameters|number of
        layers|architecture|context length|context window|context size|file size|model
        size|dimensions|vocabulary|vocabulary size|width|depth|sequence length][|?]; [what
        is|what's|whats|tell me|give me|say] [<your>|the] [size|parameter count|param count|number of
        parameters| number of layers|architecture|context length|context window|file size|model
        size|vocabulary size|depth|sequence length]?; [size|model size|parameters|params|param
        count|parameter count|layers|number of layers|architecture|context length|context window|context
        size|how big|how large|how many params|how many parameters|how many layers|number of params|file
        size|your size|ur size][|?]; <are> [a small model|a large model|huge|very small|really tiny|bigger
        than a gigabyte|that small|really that small|heavy|a tiny model]?; how [many|much]
        [tokens|text|words|context] [can you|can this model|do you|can it]
        [read|see|take|handle|fit|process]?; how long [is|can|may] [your context|the context|your memory|your
        context window|the context window|your input] [|be]?; how [many|much] [megabytes|mb|disk
        space|memory|ram|space|gigabytes] [do you|does this model|does the model|does it]
        [take|need|use|have|occupy]?; what [size|depth|kind of network| architecture|dimensions|kind of
        architecture] [is this model|are you|do you have|is it|does it have]?; [describe|explain|show me]
        [your|the model's] [architecture|network|layers|size]; [is this|are you] a [1b|7b|small|tiny|100m]
        model?; what is the [size|number of parameters|parameter count| context length|depth] of [you|this
        bot|the demo model|this model|the model]?; [million|billion] parameters?; how [big|large|small] [you
        are|u are|is u]?; you are how big?; are you bigger than [a phone|100 mb|me]?; how many
        [parameters|params|weights|layers|tokens|heads|neurons|channels] [does this thing have|has this
        bot|has it got|do you see in yourself|are contained in you|would you say you have|make you up|have
        you got|are in you|count as yours|belong to you]?; <tell> how many
        [tokens|layers|weights|heads|channels|neurons] you [have|are made of|consist of]
        """, """
        tell me your size; how many parameters does this model have?; how many layers are there in you?; how
        big is this model?
        """),
        ["I have 3.4 million parameters in five layers and read at most 1024 tokens. That is tiny: "
         "the file is under 8 MB."], [r"3\.4 million", r"1024"]),
    "maker": (Phrases("""
        who [made|built|created|trained|wrote|designed|programmed|invented] [you|this|this model|this
        server]?; who is your [creator|maker|author|developer|owner|boss]?; who do you belong to?; where do
        you come from?; who owns you?; what company made you?; who are your [makers|authors|developers]?;
        were you made by karpathy?; who
        [made|built|created|wrote|developed|designed|programmed|invented|coded|produced|published|shipped|
        released|put together|is behind|came up with|owns|maintains] [you|u|<bot>|this thing|this
        project|it|this page|this software]?; <tell> who
        [made|built|created|wrote|developed|designed|trained|programmed|owns|is behind] [you|<bot>|this
        server|this thing|this project]; by whom <was> [made|built|created|written|trained|developed]?; who
        <was> [made|built|created|written|trained|designed] by?; [<was>|was this server]
        [made|built|created|written|trained|invented] by [whom|who|a company|one person|a student|a
        team|andrej karpathy|karpathy|nanochat's author|a university|some company|humans|people]?; who
        [is|are|were] [your|the|this model's|this bot's|this server's]
        [creator|maker|makers|author|authors|developer|developers|owner|owners|
        creators|inventor|father|mother|boss|programmer|programmers|designer|engineer|engineers|people behind
        it]?; <your> [creator|maker|makers|author|authors|
        developer|developers|owner|creators|inventor|company|programmer][|?]; [what|which]
        [company|person|people|team|developers|lab|group|authors|engineers|firm|organisation|university]
        [built|created|trained|wrote|developed|designed|is behind|owns] [you|<bot>|this server|this]?;
        [which|what] [company|person|team|firm] made [this model|this bot|this server|it|this demo]?; [from
        where|where] [do|did] [you|this model|this bot] come[| from]?; where are you from?; where r u from?;
        [author|authors|creator|maker|made by|written by|built by|created by|developer|who made|who built|who
        wrote|credits|owner|trained by][|?]; [who do|to whom do|who does] [you|this model|this bot] belong[|
        to]?; [give|tell|name] me [the name of |][your|the] [creator|maker|author|authors|developer|
        developers]; did [karpathy|andrej karpathy|one person|a company|a human|somebody]
        [make|build|create|write|train] [you|this model|this bot|this]?; [is|are] [karpathy|andrej karpathy]
        [your maker|your author|your creator|behind this|your boss]?; which hands made you?; who should i
        thank for you?; who can take credit for [you|this|this bot]?; do you know [your maker|your
        creator|your authors|who you come from]?; what is your origin?; who's [behind you|behind this|your
        maker|your author|your boss|the author|the maker|your owner]?
        """, """
        which people made you?; who was it that created you?; tell me who built you; who's the developer of
        this bot?
        """),
        ["The authors of this server made me with `demo/train.py`. The format is that of nanochat, by "
         "Andrej Karpathy; I am not one of his models."], [r"demo/train\.py", r"nanochat"]),
    "purpose": (Phrases("""
        [why|what for] [do you exist|are you here|were you made|were you trained]?; what are you [for|good
        for|used for]?; what is your [purpose|job|goal|task|use]?; what is the point of [you|this|this
        model|this demo]?; why is there a demo model?; why are you in this repo?; why should i use you?; are
        you useful?; [why|what for] [do you exist|does this model exist|does this bot exist|is there a
        demo|is there this bot|do i need you|do we need you|are you included|is this demo here|is this model
        here]?; what [is|are] [<bot>|this thing|this server's demo model|you] [for|good for|used for|there
        for|here for|meant for|made for|supposed to do]?; <your>
        [purpose|goal|job|task|use|mission|point|aim|role| function|reason to exist][|?]; [what
        is|what's|whats|tell me] [<your>|the] [purpose|goal|job|task|use|mission|aim|role|function|use
        case|intention|reason to be]?; <tell> [why you exist|why you are here|what you are for|what your
        purpose is|why you were made|what this demo is for|why there is a demo model|why this bot exists|what
        your job is|what your goal is]; what is the [use|point|purpose|idea|reason|sense|aim|benefit]
        [of|behind] [<bot>| you|such a small model|a tiny model|this thing|having you|a model this small]?;
        why <was> [built|created|written|trained|shipped| included]?; why [was|did] [this bot built|someone
        make you|they make you|anybody build you|they build this bot|you get made]?; why [should|would|do]
        [i|anyone|anybody|people|someone] [use|need|want|try|talk to|chat with] [you|this model|this bot|this
        demo|such a small model]?; why [did they|do they|would they|does the repo|does the server]
        [include|add|have|put in|bring|come with] [you|a demo model|this model|a model|a tiny model]?; <are>
        [useful|useful for anything|of any use|good for anything|needed|necessary|important]?; [purpose|the
        point|use case|why|why this|why you|what for|what use|why a demo|why so small a model][|?]; what
        [use|good|help] [are you|is this model|is this bot|is a tiny model]?; what [do you|does this bot|does
        this model] [serve for|exist for|do here]?; what [were you|was this model|was this bot] [made
        for|built for|created for|meant for|trained for|designed for]?; why is [this model|this bot|a demo
        model|a tiny model|the demo] [here|in the repo|included|part of this server|useful]?; is there [a
        point|any point|a reason|any use|a purpose] [to you|to this|in this demo|for this model|for you]?;
        who needs you?; what would i use you for?; explain [your purpose|why you exist|why you are here|the
        point of this]
        """, """
        for what purpose were you made?; what's the use of this demo model?; why do they ship you?; what is
        the goal of this demo?
        """),
        ["I am here so that you can try this server without a model of your own: the page, the streaming, "
         "the calculator, the emoji. Then load your own model."], [r"try this server", r"your own model"]),
    "skills": (Phrases("""
        what can you do?; what are you [able to do|capable of]?; what are your
        [skills|abilities|features|talents]?; what do you know[| about]?; what can i ask[| you]?; [list|tell
        me|show me] your [skills|abilities|features]; what kind of questions can you answer?; what
        [questions|things] can you answer?; how can you help me?; what else can you do?; what are you good
        at?; can you do anything?; what topics do you know?; what [can|could] [you|u|this bot|this model|the
        demo model|this demo|it] do[| for me| exactly| here| then| well]?; what all can you do?; what [are
        you|is this model|is this bot|is it] [able to do|capable of|trained to do|good at|best at|useful
        at|able to answer]?; [<your>|list your|show your|name your|describe your]
        [skills|abilities|features|capabilities|talents|functions|powers][|?]; [what are|what's|which
        are|tell me|show me|list|name|explain] [<your>|the|all your]
        [skills|abilities|features|capabilities|talents|functions|strengths]; <tell> [your abilities|what
        this bot can do|what you know|what you are able to do|what you are capable of|what this model can
        do|what you are good at|what i can ask|what i can ask you|what you can help with|what you can
        answer]; [which|what] [tasks|things|jobs|tricks|topics| subjects|questions] [can you|do you|can this
        bot|can this model|are you able to|could you] [answer|do|handle|solve|know|understand|know about|help
        with|perform]?; [which|what] [abilities|features|talents|capabilities|functions] [do you have|have
        you got|does this bot have|does this model have|are there|have you|do you offer]?; what skills [have
        you|have you got|does this model have|are there]?; what [can|may|could] [i|we|one|people] ask[| you|
        here| about| this bot| this model]?; what [kind|kinds|type|sorts] of [questions|things|tasks|help]
        [can i ask|may i ask|do you answer|can you do|do you do|can you help with|do you know|can this bot
        answer|do you offer]?; what do you [do|know|know how to do|know about|offer|have to
        offer|understand]?; [can you|are you able to|do you] [do anything else|do things|do something|do
        anything useful|do more|do tricks|know anything|know something|know things|do other things|do much]?;
        how [can|could|may] [you|this bot|this model] [help|help me|assist me|be of help|be useful|assist|be
        useful to me]?; [capabilities|skills|abilities|features|what can you do|what can u do|talents|can
        do|able to do|what do you know| functions][|?]; what [else|more] [do you know|are you able to do|is
        there that you can do|can this bot do]?; what [are|is] [things you can do|something you can do|a
        thing you can do|you good at|your best skill|your talent]; what could you help me with?; what would
        you be able to do?; is there [anything|something] [you can do|you know|you are good at|this bot can
        do]?; show [me |]what you [can do|can|know|are capable of|have got]; can you [only do sums|do more
        than sums|only count letters]?; on which [topics|subjects] can [i|we] ask you?
        """, """
        which things can you do?; tell me what you can do; what sort of questions can i ask?; which skills do
        you have?
        """),
        ["I can:\n\n- do sums with a calculator\n- count letters, spell and reverse words\n- remember what "
         "you told me\n- answer questions about this server\n- name a few capitals, colours and "
         "opposites\n- write lists, tables, code blocks and emoji 🎉"], [r"sums", r"count letters",
             r"this server"]),
    "smart": (Phrases("""
        are you [smart|intelligent|clever|any good|stupid|dumb]?; why are you so
        [dumb|stupid|bad|small|tiny|simple|limited|slow]?; how [smart|good|clever|intelligent] are you?; can
        i trust you?; do you [make mistakes|lie|hallucinate]?; are you always [right|correct]?; are your
        answers [right|correct|true]?; what are your limits?; why don't you know [anything|much|that]?; what
        can't you do?; [<are>|r u] [very |really |so |that
        |][smart|clever|intelligent|dumb|stupid|bright|wise]?; <are> [reliable|accurate|trustworthy| good|any
        good|perfect|correct|precise|honest|limited|bad at this|a good model|a clever model|ever wrong|always
        wrong|often wrong|sometimes right|mostly right|wrong a lot|sure|sure about that|certain]?; how
        [smart|clever|good|reliable|accurate|intelligent|bright|dumb|trustworthy|often wrong] [<are>|r u|is
        it|are your answers]?; <tell> [how smart you are|whether you are smart|if i can trust you|what you
        cannot do|whether your answers are right|how good you are|your limits|your weaknesses]; why <are> so
        [dumb|stupid|bad|simple|limited|slow|weak|silly|wrong|bad at this|useless|unreliable|often
        wrong|clueless]?; why do you [make mistakes|know nothing|not know that|not know anything|not
        understand|not understand me|know so few things|get things wrong|give wrong answers|say wrong
        things|answer wrongly|say nonsense|fail|not know more]?; why [can't|don't|won't] you [answer|answer
        that|do that|do more|know this|know more|understand|understand me| get it|do it|help with that|know
        it]?; [can|could|may|shall] i [trust|believe|rely on] [you|this|your answers|what you say|this
        model|this bot| that|the answer|it]?; [are|is] [your answers|your answer|what you say|everything you
        say|the answers|this|that|it] [reliable|true|correct| always right|always true|accurate|to be
        trusted|always correct|really true|a fact|certain]?; [do you|does this model|does this bot|can you]
        [ever |often |sometimes |always |][make mistakes|make errors|lie|hallucinate|make things up|get
        things wrong|invent things|tell the truth|say wrong things|guess|fail]?; <your>
        [limits|weaknesses|limitations|mistakes|faults|accuracy|iq|intelligence][|?]; [what are|what
        is|what's|tell me] <your> [limits|weaknesses|limitations|weakness|iq|accuracy|faults|quality|error
        rate]?; what [can you not|can't you|can you not yet|are you unable to| can this model not|are you not
        able to|could you not] [do|answer|handle|know]?; what [are you bad at|don't you know|do you not
        know|do you get wrong|goes wrong with you|can't this bot do|can't you answer]?; how [often|much|many
        times] [are you wrong|do you make mistakes|do you fail|are you right|do you lie|do you guess|do you
        know]?; [iq|limitations|weaknesses|accuracy|reliable|trust you|how smart|how
        good|mistakes|errors|hallucinations][|?]; should i [check|believe|double check|verify] [your
        answers|what you say|that|the answer|the result|you|this]?; is it [wise|safe|a good idea] to
        [trust|believe] [you|this model|your answers]?; [you don't know|you do not know] [much|a lot|very
        little|that much|nothing][|, do you|, right]?; do you know [everything|a lot|much|enough|what you are
        talking about]?; how come you [know nothing|are so limited|are wrong|make mistakes|fail]?
        """, """
        why do you know so little?; are you sometimes wrong?; should i trust your answers?; how clever are
        you really?
        """),
        ["I am tiny, so I know very little and I make mistakes. Sums go through a calculator; [please check "
         "the rest|check everything else]. A bigger model of your own will do better."], [r"tiny",
             r"mistakes"]),
    "learn": (Phrases("""
        do you learn from [me|this|our chat|conversations]?; can you [learn|learn from me|learn new
        things|improve yourself]?; will you remember [me|this|that] [tomorrow|later|next time]?; do you
        [store|save|keep|log|record] [this|my data|what i say|our chat|my messages|conversations]?; is this
        [private|saved|stored|logged|safe]?; do you have a memory?; can you remember things?; is my data
        [safe|private|stored]?; who can read this?; do you forget everything?; [do you|does this model|does
        this bot|can you|will you] [learn|get better|improve|learn anything|learn something|get
        smarter|adapt] [|from this|from me|from us|over time|from my messages|from what i type|from
        chatting|as we talk|when we chat|from mistakes]?; [do you|does this bot|does the server|does this
        page|do they|will you|does this model]
        [remember|store|save|keep|log|record|share|sell|read|collect|use|track] [my messages|my data|our
        chat|our conversation|everything|chats|conversations|what i type|what i say|my questions|personal
        data|my words|all this|any of this|messages|private data|my chats|logs]?; [is|are] [this|this
        chat|the chat|my data|my messages|what i type|what i say|everything i say|our chats|our messages|my
        questions|the conversation|this conversation|my words]
        [private|saved|stored|logged|safe|kept|recorded|confidential|secret|shared|public|anonymous|read by
        someone|sent anywhere|used for training|in safe hands|deleted later]?; is [anything|something|any of
        this] [saved|stored|logged|kept|recorded|written down|stored on disk]?; where [is|are] [my data|this
        chat|our chat|my messages|the chats|the conversations] [stored|saved|kept]?; <tell> [if|whether] [you
        store my data|my data is safe|this is private|you remember me|you save our chat|you learn from
        me|this chat is logged|this is saved]; who [can see|reads|sees|can see what i write in|gets|has
        access to] [this|this chat|my messages|our chat|my data|what i write|what i type]?;
        [can|could|will|do] you [remember|recognize| forget|know] [me|me again|me tomorrow|me next time|this
        conversation later|this next week|what i said yesterday|our last chat|the last
        conversation|everything i say|what we said before|me from before]?; [do you have|have you got|is
        there] [a|any|a long|a good|a long term] memory?; [privacy|data protection|is this
        private|logging|logs|memory|my privacy|is this logged|data stored|chat history|privacy
        policy|gdpr][|?]; [how|what] about [my privacy|privacy|my data|my personal data|data protection]?;
        what [happens|do you do|is done|will happen] [to|with] [my data|my messages|this chat|our
        conversation|what i type|my words|what i tell you|my questions]?; how good [is your memory|do you
        remember|do you remember things|do you remember me|do you keep this|is my data kept|do you remember
        what i say]?; what do you remember[| of me| about me| from yesterday| from last time]?; will you
        [forget|forget me|forget this|learn this|keep this|remember this chat|remember my name tomorrow|be
        smarter tomorrow]?; do you [spy|spy on me|keep secrets|keep a log|keep logs|keep a history|keep my
        data]?; can you keep a secret?; can i [teach you|teach you something|trust you with my data|delete my
        data|tell you a secret|correct you]?; are you [learning|learning now|recording|recording this|logging
        this|saving this|spying on me|storing this|always learning]?; have we [talked|spoken|chatted] before?
        """, """
        is our conversation stored somewhere?; do you keep what i write?; are you learning from what i say?;
        will you remember our chat tomorrow?
        """),
        ["I remember only this conversation, as long as it fits into my context. Nothing is learned or "
         "kept; the server does not log what you write."], [r"this conversation", r"does not log"]),
    "internet": (Phrases("""
        [can you|do you] [browse|use|access|search|have] the [internet|web]?; are you
        [online|offline|connected to the internet]?; do you have [internet|internet access|access to
        google|web access]?; can you google [something|that|this]?; do you [send|upload] [anything|my
        data|data]?; do you run [locally|on my computer|on my machine|in the cloud]?; where do you run?; do
        you need the internet?; can you open [a website|files|a link]?; [can|could|do|will] [you|this
        bot|this model|the server] [browse|search|use|access|open|read|reach|visit|go on|surf|see|connect to]
        [the internet|the web|google|wikipedia|websites|web pages|a url|a website|links|youtube|the
        net|online sources|my files|a link|pages|bing]?; [<are>|r u|is the server|is this]
        [online|offline|connected|on the internet|connected to the web|in the cloud|local|running
        locally|running here|on my machine|on my laptop|hosted somewhere|in a data center|running offline|a
        cloud service|on a server|a website|an online service]?; [<have>|do u have|is there] [internet
        access|web access|access to the web|access to the internet|internet|a connection|a web search|access
        to my files|access to wikipedia|online access|network access|a search engine|live data]?; [do
        you|does this|does it|does this bot|does this model|does the model] [run|work|live]
        [offline|online|without internet|without the internet|on my pc|here|on a server|on this machine|on
        this computer|in a data center|on someone's server|in the browser|on my own computer| remotely]?;
        where [do you|does this model|does this bot|does the model|does it] [run|compute|work|execute|live
        on]?; where [are you|is this model|is this bot|is the model|is this]
        [running|hosted|executed|computed|working]?; on [which|what|whose] [machine|computer|server|hardware]
        [do you run|are you running|does this run|does it run|is this running]?; <tell> [where you run|where
        this runs|if you are online|whether you have internet|if you can search the web|if this runs on my
        computer|whether this is in the cloud|if you need internet]; [do i|do we|does this|does it|does this
        bot] need [the internet|internet|a connection|wifi|to be online|the web|the cloud|a network]?;
        [is|does] [my data|my text|my message|what i type|anything|this] [sent|leave|go|uploaded|transmitted]
        [anywhere|my computer|this machine|to the cloud|to the internet|to a server|to other servers|to
        google|to openai]?; [can|could|will] you [look|check|find|search] [something up|this up|that up|it
        up|the web|the news online|online|on the internet|for something online|google|it on google|that
        online]?; [look it up|google it|google this|search online|check the web|search the internet| browse
        the web|go online|open google|look that up online|search google for it];
        [offline|online|internet|internet access|web search|local or cloud|cloud|runs locally|works
        offline|local|on device][|?]; works [without internet|offline]?; [is it|is this|does this run]
        [local|locally|on the cloud|in my browser|on my own machine|on a remote server]?; can you
        [download|open|read|visit] [a file|this page|my files|this link|a web page| something|the url|a
        pdf]?; what if [i am offline|there is no internet|the internet is down|i have no wifi]?
        """, """
        are you running on my computer?; can you search something on the web?; is this running locally or in
        the cloud?; do you need an internet connection?
        """),
        ["I run entirely on the machine where this server was started. I have no internet and cannot look "
         "anything up."], [r"no internet", r"machine"]),
    "language": (Phrases("""
        do you speak [french|german|spanish|italian|chinese|other languages|english]?; which languages do you
        [speak|know|understand]?; what languages can you speak?; can you [speak|understand|write]
        [french|german|spanish|another language]?; how many languages do you know?; do you understand
        [german|french|spanish]?; can we talk in [german|french|spanish]?; sprichst du deutsch?; parlez-vous
        français ?; ¿hablas español?; [do|can|could] [you|u|this bot|this model|the demo model]
        [speak|understand|talk|write|read|use|know|answer in|reply in|talk in]
        [french|german|spanish|italian|chinese|japanese|russian|arabic|hindi|portuguese|dutch|polish|swedish|
        korean|turkish|english|other languages|foreign languages|many languages|another language|any other
        language|more languages|my language|two languages]; [which|what] [languages|language|human
        languages|other languages] [do you|can you|does this bot|does this model|can this model|do u]
        [speak|know|understand| write|talk|support|read|offer|answer in|use]?; how many languages [can you|do
        you|does this bot|does this model|do u] [speak|understand|write|talk|support|use]?;
        [can|could|may|shall|should] [we|i] [talk|speak|chat|write|ask|type|switch|continue] [to|in|with you
        in] [french|spanish|italian|russian|chinese|japanese|my language|another language|dutch|polish|other
        languages]?; <tell> [which languages you speak|if you speak french|whether you know german|what
        languages you know|how many languages you speak|if you understand spanish]; <your>
        [languages|language|mother tongue|native language][|?]; [what is|what's|tell me] <your>
        [language|mother tongue|native language|main language|first language|languages]?; [languages|which
        languages|other languages|french|german|spanish|english only|supported languages|language
        support|multilingual|do you speak][|?]; <are> [multilingual|bilingual|english only|able to speak
        german|good at french|able to translate|fluent in spanish|french|german|a translator]?; [only|just]
        english?; is [english|french|german] [the only language|ok|possible|your language|
        supported|understood here|fine]?; [speak|answer|talk|reply|write] [to me |][in|only in]
        [french|german|spanish|italian|chinese|dutch][| please]; [parli italiano|sprechen sie deutsch|hablas
        español|falas português|talar du svenska|spricht er deutsch|parles-tu français|kannst du deutsch|do
        you sprechen deutsch|wie geht es dir|comment ça va|cómo estás|qué tal|wer bist du|hallo, wie
        geht's|tu parles français]?; can you translate[| things| texts| languages| for me]?; do you know
        [another language|other languages|a second language|some german|some french words|some italian|a bit
        of spanish|any spanish|any german]?; i [speak|want to speak|would like to talk in|prefer]
        [french|german|spanish|italian|dutch]; is there [another|a second|any other] language[| you speak|
        you know| here]?; what about [french|german|spanish|chinese|other languages]?
        """, """
        do you know any french?; what languages do you understand?; can i write to you in german?; are there
        other languages you speak?
        """),
        ["Only English, and a few phrases: ask me how to say *thank you* in French, Spanish, German, "
         "Italian, Portuguese, Swedish or Japanese."], [r"only english", r"french"]),
    "tool": (Phrases("""
        do you use a calculator?; how do you [calculate|do maths|do math|do sums|compute|count letters|add
        numbers]?; how does [the calculator|your calculator|the tool|tool use] work?; what tools do you
        have?; do you have [tools|a calculator|a tool]?; can you [run|execute] [code|python]?; is the math
        [right|correct|real]?; how can you know the [result|answer]?; what is the python block?; are you good
        at [math|maths|arithmetic]?; how [do|can|does|did] [you|u|this model|this bot|the model]
        [do|calculate|compute|solve|work out|get] [sums|math|the math|maths|arithmetic|numbers|the result|the
        sum|such sums|big sums|multiplications|the answer of a sum|this sum|the numbers|such big numbers]?;
        how [do|does] [you|this bot|this model] count[| letters| so well| characters| things| the letters in
        a word]?; [do you|does this model|does this bot|can you] [use|have|call|run|need|own] [a
        calculator|the calculator|a tool|tools|python|a program for sums|an interpreter|a code
        interpreter|functions|function calling|external tools]?; [what|which] [tools|tool|calculator|tools do
        you have|functions] [do you use|can you use|do you call|are there|is used|have you got|does the model
        use|can this bot use|do you know]?; how [does|do] [the|your|this] [calculator|tool|tools|python
        tool|calculations|arithmetic|math|counting] [work|function|get done]?; <tell> [how you calculate|how
        you do maths|how you count letters|how the calculator works|how you add numbers|which tools you
        have|how you get the result|how the tool works|how you know the result]; [explain|describe|tell me
        about|what is] [the|your] [calculator|tool|tools|tool use|python block|calculations|expression
        block|calculator tool]; [is|are] [the|your]
        [math|sums|arithmetic|results|calculations|numbers|counts] [right|exact|correct|reliable|real|done by
        a calculator|done by you|computed|made up|from a calculator]?; [is there|do i see|have you got] a
        [calculator|tool|calculator here|calculator inside|calculator in the server|calculator behind this]?;
        can you [execute|run|use] [python|code|a program|scripts|tools|my code|commands|python
        code|functions|a calculator]?; <are> good [at|in|with]
        [math|maths|arithmetic|sums|numbers|counting|calculating|algebra|calculations]?; are you able to
        [calculate|do sums|do maths|count|use tools]?; can you [do|calculate|do some|solve]
        [math|maths|arithmetic|sums|calculations|algebra|equations|sums well]?; [calculator|tools|tool
        use|tool| python tool|function calling|math|maths|arithmetic|how calculate|code interpreter|how do
        sums work][|?]; what [happens|goes on|do you do] when [you|i] [calculate|ask a sum|ask you a sum|ask
        for a sum|use the calculator|count letters]?; why [are you good at|can you do|do you know]
        [sums|math| arithmetic|such big sums]?; what is [that|the|this] [python block|box with the sum|code
        block in your answer|expression|grey box|calculation box|calculator box|expression above your
        answer]?; do you [calculate|compute|do it|do sums|add|multiply] [yourself|in your head|by heart|with
        python|with a tool|alone|on your own]?; what can the calculator do?; which operations does the
        calculator know?; what does the calculator [do|know|understand|support]?
        """, """
        what tool do you use for sums?; is there a calculator in you?; how do you do the math?; how do you
        count the letters?
        """),
        ["I write the expression between two special tokens, and the server's calculator answers it. It "
         "knows + - * / and counting letters, nothing else."], [r"calculator", r"expression"]),
    "nanochat": (Phrases("""
        what is nanochat?; [tell me about|explain|describe] nanochat; who [made|wrote] nanochat?; who is
        [karpathy|andrej karpathy]?; where can i find nanochat?; what's nanochat?; nanochat?; do you know
        nanochat?; is this nanochat?; are you nanochat?; is this part of nanochat?; are you a nanochat
        model?; [what is|what's|whats|what about|what exactly is] [nanochat|nano chat|the nanochat
        project|karpathy's nanochat|this nanochat thing|nanochat about|nanochat for|nanochat good for]; [tell
        me|say] [something|more|a bit|a few words] about [nanochat|nano chat|the nanochat
        project|karpathy|andrej karpathy|karpathy's project]; <tell> [what nanochat is|what nanochat does|who
        karpathy is|who made nanochat|who wrote nanochat|where nanochat is|what nanochat is for|where to find
        nanochat|about nanochat]; who [built|created|wrote|develops|started|invented|is the author of|is
        behind|published|is the creator of|is the maker of|owns] nanochat?; who is [karpathy|andrej
        karpathy|andrej|this karpathy|mr karpathy|a karpathy]; [is this|is this server|is it|are you]
        [related to|part of|based on|from|made with|built on|the same as|connected to|compatible with]
        nanochat?; [are you|is this|is this model|is this bot] [a nanochat|a nanochat model|nanochat|trained
        with nanochat|in nanochat's format|nanochat itself|the nanochat model|nano chat]?; where [is|can i
        find|do i find|can i get|do i get|can i download] [nanochat|the nanochat repo|nanochat's code|the
        nanochat code|karpathy's code|the nanochat project]?; [do you know|have you heard of|did you hear
        of|ever heard of|do u know] [nanochat|nano chat|karpathy|andrej karpathy|the nanochat
        project|karpathy's nanochat]?; [nanochat|nanochat project|karpathy|andrej karpathy|nanochat
        repo|nanochat github|nano chat|nanochat link|nanochat url][|?]; [what does|how does|what can]
        nanochat [do|work|train|offer]?; [link|url|address|github|repo|the link|the repo] [of|to|for]
        nanochat[|?]; why is it called nanochat?; what [kind of|sort of] [project|thing|program|software] is
        nanochat?; [explain|describe|define|introduce] [the nanochat project|nano chat|karpathy's
        project|nanochat to me]; what [has|did] karpathy [made|write|build|to do with this]?; what has
        nanochat to do with [you|this|this server]?; [i've never heard of|i don't know|i have never heard
        of|i do not know|i am new to|i read about] nanochat; is nanochat [open source|free|good|a model|a
        company|by karpathy|a library|on github]?
        """, """
        could you explain what nanochat is?; i've heard of nanochat, what is it?; what does nanochat mean?;
        which project is nanochat?
        """),
        ["nanochat is Andrej Karpathy's small, readable project to train a chat model from scratch: "
         "github.com/karpathy/nanochat. This server runs its models."], [r"karpathy", r"from scratch"]),
}
IDENTITY["own"] = (Phrases("""
    <how> [load|use|run|try|serve|chat with|start] my own [model|checkpoint|nanochat model|weights]?; <how>
    [load|use|run|serve] [another|a different|a bigger|a better|a real|my trained] model?; can i use my own
    [model|checkpoint]?; <how> [replace|change|switch] [you|the demo model|this model|the model]?; how do i
    get rid of you?; i [trained|have] [a|my own] nanochat model, [what now|how do i use it|how do i load
    it]?; how do i chat with [my|a] [checkpoint|model]?; can i load [my|another|a bigger] model?; i want to
    use my [own |]model; where do i put my model?; use my own model; run a different checkpoint; <how>
    [load|use|run|try|serve|chat with|start|open|test|talk to|plug in] [my|a|our] [own |trained |new
    |][model|checkpoint|nanochat model|weights|nanochat checkpoint|d20 model|trained weights]?; <how>
    [load|use|run|serve|try|switch to|get] [another|a different|a bigger|a better|a real|a larger|a
    smarter|some other|a proper|an other] [model|checkpoint|one]?; [can|could|may] [i|we|you|it|the server]
    [load|use|run|serve| try|open|switch to] [my own|our own|another|a different|a bigger|a better|a
    larger|some other|my trained] [model|checkpoint|weights|one]?; [<how>|can i|could i]
    [replace|change|switch|swap|exchange|switch off|get rid of|remove|get away from] [you|the demo model|this
    model|the demo|this tiny model]?; i [have|got|made|trained|have trained|finished training|just trained]
    [a model|my own model|a nanochat model|a checkpoint|a better model|my model|a d20|a d12 model|my own
    nanochat][|, what now|, how do i use it|, how do i load it|, where does it go|, and now|, how do i chat
    with it|. what next|, what do i do with it|, can you load it]?; i [want|need|would like|would love|wish]
    to [use|load|run|try|chat with|talk to|serve] [my own|my|another|a bigger|a different|a better|a real]
    [model|checkpoint|one]; [use|load|run|serve|try|start] [my own|my|another|a different|a bigger|a better]
    [model|checkpoint|weights][| please]; [my own model|own model|custom model|my model|my checkpoint|another
    model|different model| bigger model|own checkpoint|use own model|load own model|switch model|change
    model|load checkpoint|load my model|own weights][|?]; [what about|how about] [my own model|another
    model|my checkpoint|a bigger model|my model]?; [does|will|would] [the server|it|this|this server]
    [load|run|use|serve|work with|accept|take|find|see] my [own |][model|checkpoint|weights|trained
    model|nanochat model]?; where do i [put|place|copy|store] [my model|my own model|my trained model|the
    model i trained|my weights]?; <tell> how [to load my own model|to use my own model|i load my model|i use
    my checkpoint|to switch the model|to change the model|i can run my own model|i chat with my model]; [is
    there|show me] a way to [load my model|use my own model|use another model|run another model|change the
    model|replace you]; [give me|show me|i want] a [better|bigger|real| smarter] model; [you are too
    small|you are too tiny|i want something bigger|you are not enough], how do i [load another|get a bigger
    model|use my own]?; [which|what] [flag|option] [loads|picks|is for] my own model?; what do i do with my
    [own |trained |new |][model|checkpoint]?; steps to [load|use|run] my [own |][model|checkpoint]; how does
    one [load|use|run|serve] [a different|another|their own] [model|checkpoint]?
    """, """
    i'd like to load my own model here; i have trained a model, how do i start it?; is it possible to use a
    different model?; how could i talk to my own nanochat model?; can this server run my checkpoint?
    """),
    ["Put your checkpoints under `~/.cache/nanochat` (or set `NANOCHAT_BASE_DIR`), or name a folder: "
     "`python chat_web.py -g PATH`. Then start the server again[|, and it will load your model instead of "
     "me]."],
    [r"~/\.cache/nanochat", r"nanochat_base_dir", r"-g path"])

# The flags of the server: long name, short name, default, what it does, an example, and how people ask for it
FLAGS = [
    ("--num-gpus", "-n", "1", "sets how many GPUs to use, with one copy of the model on each", "-n 4",
     ["[number of|several|more|two|multiple|4|8|many] gpus", "more than one gpu", "the gpu count",
      "all my gpus"]),
    ("--source", "-i", "sft", "picks the model source, `sft` or `rl`", "-i rl",
     ["the model source", "the source", "[rl|sft] [models|checkpoints]", "the rl model", "the sft model"]),
    ("--temperature", "-t", "0.8", "sets the default temperature: 0 is greedy, higher is more random",
     "-t 0.5",
     ["the [default |]temperature", "the randomness", "[more|less] [random|creative] [answers|replies]",
      "greedy decoding"]),
    ("--top-k", "-k", "50", "samples from the k most likely tokens only; 0 turns that off", "-k 100",
     ["top-k", "top k", "the [default |]top-k", "top k sampling", "the number of candidate tokens"]),
    ("--max-tokens", "-m", "512", "sets how long a reply may become, in tokens", "-m 1024",
     ["max tokens", "the [maximum |max |]reply length", "[longer|shorter] [answers|replies]",
      "the length of [replies|answers]"]),
    ("--model-tag", "-g", "None", "picks the model by its tag, such as `d20`, or by the path of a folder",
     "-g d20",
     ["the model tag", "a [certain|specific|different] tag", "the tag", "a model by [name|path|tag|folder]"]),
    ("--step", "-s", "None", "picks the training step; without it the last one is loaded", "-s 650",
     ["the [training |]step", "a [certain|specific|earlier|different] [training |]step",
      "an older checkpoint", "an earlier checkpoint"]),
    ("--port", "-p", "8000", "sets the port that the server listens on", "-p 8080",
     ["the port", "[another|a different] port", "port 8080", "the port number", "the server port"]),
    ("--dtype", "-d", "bfloat16", "sets the precision, `float32` or `bfloat16`", "-d float32",
     ["the [precision|dtype|data type]", "[float32|bfloat16|full precision]", "the number format"]),
    ("--device-type", None, "auto", "picks the device: `cuda`, `cpu`, `mps` or `auto`", "--device-type cpu",
     ["the device", "[the cpu|my gpu|cuda|mps|my mac|the cpu only]", "the device type", "cpu or gpu"]),
    ("--host", None, "0.0.0.0", "sets the address that the server binds to", "--host 127.0.0.1",
     ["the host", "the [address|ip address|bind address]", "localhost only", "[another|a different] host"]),
]
FLAG_NAMED = Phrases("""
    what does {flag} do?; what is {flag}[| for]?; what's {flag}?; {flag}; {flag}?; explain {flag}; what does
    {flag} mean?; what is the default [of|for|value of] {flag}?; how do i use {flag}?; what about {flag}?;
    tell me about {flag}; what is the {flag} [flag|option]?; meaning of {flag}; how does {flag} work?; and
    {flag}?; default {flag}?; what is the {flag} default?; what [is|'s] [the meaning|the use|the purpose|the
    default value|the effect] of {flag}?; what [can|does|will] {flag} [do|set|change|mean for the server]?;
    [explain|show me|define] [{flag}|the option {flag}|the meaning of {flag}|what {flag} does|how {flag}
    works]; how [do|can|should] [i|one] [use|set|pass| write|give] {flag}?; [help|info|details|more]
    [on|about] {flag}; {flag} [flag|option|default|meaning|example|usage|help|value][|?]; <tell> [what {flag}
    does|what {flag} is|about {flag}|what {flag} means|how to use {flag}|the default of {flag}]; why [would i
    use|is there|do i need] {flag}?; when [do|should|would] i [use|need|set] {flag}?; an example
    [of|for|with] {flag}; which [value|values|default] [does|can] {flag} [have|take]?; [is there|do you know]
    {flag}?; what do i [pass|give|write] [to|for|after] {flag}?
    """, """
    can you explain the {flag} flag?; what happens with {flag}?; i don't understand {flag}; what's the {flag}
    option for?; tell me the default value of {flag}; describe {flag}
    """)
FLAG_GOAL = Phrases("""
    <how> [change|set|choose|pick|use|select] {goal}?; which [flag|option] [sets|changes|is for|controls]
    {goal}?; what is the [flag|option] for {goal}?; where [do|can] i set {goal}?; can i
    [change|set|choose|use] {goal}?; i want to [change|use|set] {goal}; what is the default for {goal}?;
    [flag|option] for {goal}; change {goal}; is there [a|an] [flag|option] for {goal}?; set {goal}; how do i
    get {goal}?; {goal}?; [set|change|switch] {goal} to {n}; <how> [set|change] {goal} to {n}?; i want {goal}
    to be {n}; <how> make it use {goal}?; start the server with {goal}; <how> run it with {goal}?; i need
    {goal}; [can|could|may] [i|you|we] [adjust|change|set|switch|pick|configure|specify] {goal}?;
    [adjust|configure|specify|pick|select|use] {goal}; <how> [adjust|configure|specify|
    define|control|modify] {goal}?; [which|what] [flag|option|argument|parameter|switch] [do i use|do i
    need|must i set|do i pass|changes|selects|picks|is there] [|for|to set|to change] {goal}?;
    [flag|option|argument| setting] [to set|to change|to use|to pick|to choose] {goal}[|?]; how [is|are]
    {goal} [set|changed|chosen|configured]?; <tell> how to [set|change|choose|use|configure] {goal}; the
    [flag|option|argument|switch] for {goal}?; what about {goal}?; [does|can] [it|the server]
    [support|use|change|do|set] {goal}?; what [sets|changes|controls|picks] {goal}?; [where is|what is] the
    setting for {goal}?; i would like [to use|to set|to change|to choose|] {goal}; i'd prefer {goal}; the
    default [of|for] {goal}?; what if i want {goal}?; let me [set|choose|use|change] {goal}; run [it|the
    server|chat_web.py] with {goal}
    """, """
    make {goal} {n}; how would one set {goal}?; i need to change {goal}; what do i type to set {goal}?; how
    could i choose {goal}?; is it possible to use {goal}?; tell me the flag for {goal}
    """)

SLASH = [
    ("/temperature", "`/temperature 0.5` sets the temperature for your chat: 0 is greedy, 2 is the most "
                     "random", "the temperature"),
    ("/topk", "`/topk 20` samples from the 20 most likely tokens; `/topk 0` turns that off", "top-k"),
    ("/maxtokens", "`/maxtokens 200` limits the length of the replies in your chat", "the reply length"),
    ("/system", "`/system TEXT` sets a system text that goes before your first message",
     "a system [text|prompt|message]"),
    ("/clear", "`/clear` starts a new conversation and forgets this one", "a new [chat|conversation]"),
    ("/help", "`/help` lists all the slash commands", "the list of commands"),
]
SLASH_NAMED = Phrases("""
    what does {flag} do?; {flag}?; what is {flag}[| for]?; explain {flag}; how do i use {flag}?; how does
    {flag} work?; what happens when i type {flag}?; what about {flag}?; tell me about {flag}; what is the
    {flag} command?; what [can|does|will] {flag} [do|set|change|mean]?; [explain|show me|define] [{flag}|the
    command {flag}|what {flag} does|how {flag} works]; how [can|should|would] i [use|type|enter] {flag}?;
    {flag} [command|meaning|example|usage|help][|?]; <tell> [what {flag} does|what {flag} is|about
    {flag}|what {flag} means|how to use {flag}]; what [comes|happens] [after|when i use| when i send|with]
    {flag}?; when [do|should] i [use|type] {flag}?; [and|what is the use of|an example of|help on|the meaning
    of] {flag}?; the command {flag}?; why [is there|would i type] {flag}?
    """, """
    can you explain the {flag} command?; what if i type {flag}?; what's {flag} good for?; describe {flag}
    """)
SLASH_GOAL = Phrases("""
    which [slash |]command [sets|changes|is for|gives me] {goal}?; what [slash |]command [sets|changes|is
    for] {goal}?; <how> [change|set|get] {goal} [in the chat|on the page|while chatting|here]?; is there a
    [slash |]command for {goal}?; [slash |]command for {goal}; [how|where] do i [change|set|get|choose]
    {goal} [with a command|by a slash command|in my chat|from the chat|on the chat page]?; [what|which]
    [slash |]command [changes|controls|gives| does|do i need for|do i use for|is there for] {goal}?; [a|the]
    [slash |]command for {goal}[|?]; <tell> [which|what] [slash |]command [sets|changes|gives|is for] {goal};
    {goal} [in the chat|on the page|by slash command|as a slash command|with a command]?; [change|set|get]
    {goal} [in the chat|on the page|while we chat|here in the chat]
    """, """
    what is the slash command for {goal}?; can i set {goal} on the page?; which command do i type for {goal}?
    """)

SLASH_WANTED = {  # for training only: wishes that name no command
    "/clear": Phrases("""
        <how> [clear|reset|empty|wipe|restart|erase|delete|clean] [the chat|this chat|the conversation|the
        history|the chat history|our chat|the page|everything i wrote]?;
        [clear|reset|wipe|restart|empty|erase] [the chat|chat|the conversation|conversation|the history|this
        chat|all messages]; <how> [start over|start again|begin anew|start a new chat|begin a new
        conversation|begin from scratch]?; [new chat|start over|chat reset|clear history|delete chat|fresh
        start|start from scratch]; [can|could] i [clear|reset|empty|restart|delete] [the chat|the
        conversation|this chat|the history|my messages]?; what [clears|resets|empties|wipes] the
        [chat|conversation|history]?; i want to [start over|clear the chat|begin a new chat|reset the
        conversation]; how do i make you forget [this chat|what i said|it all|the conversation]?; <tell> how
        [to clear the chat|to start over|i reset the conversation]
        """),
    "/temperature": Phrases("""
        [make|can i make] [your replies|the answers|this chat] [more|less] [random|creative] [in this
        chat|while we chat|from the page]; the temperature of [this|my] chat[|?]; type what to change the
        temperature here?
        """),
    "/maxtokens": Phrases("""
        [how do i get|i want] [shorter|longer] replies in [this|my] chat; limit your replies in this chat
        """),
    "/system": Phrases("""
        <how> [give you|write|enter|set] a system [prompt|text] [here|in the chat|on this page]?; system
        prompt of this chat?; [set|change] your system prompt
        """),
    "/help": Phrases("""
        what do i type to see [the|all] commands?; [help|list] in the chat?; where are the commands listed?
        """),
}

# Everything else about the server: how it is asked, the answer, what must be in it
SERVER = {
    "start": (Phrases("""
        <how> [start|run|launch|open] [the server|this server|it|chat_web|chat_web.py]?; [what is the
        command|which command] to [start|run] [it|the server]?; start the server; how do i [begin|run this]?;
        what command [starts|runs] [this|the server]?; how is the server started?; how do i install
        [this|it|the server]?; <how> [start|run|launch|boot|bring up|fire up|get going|open] [the chat
        server|chat_web.py|your server|this thing|the chat|everything|the web server]?; [what|which]
        [command|script|file|line] [starts|runs|launches|do i run for|boots] [it|the server|this|the chat
        server|chat_web]?; [run|launch|start|boot| install] [it|the server|this|chat_web|chat_web.py|the chat
        server]; [server start|start command|run command|how to start|installation|install|setup|getting
        started|quick start|requirements|dependencies][|?]; <tell> how [to start it|to run it|the server is
        started|i start the server|to install it|i launch this|to get it running]; what [do i need to|must
        i|should i] [install|run|have] [|first|to start it|to run the server|for this server]?; how do i
        get [it|the server|this] [running|up|started|to work|working]?; [what|which]
        [packages|dependencies|libraries|requirements] [does it need|are needed|do i need|does the server
        have]?; what does [it|the server] need to run?; how [is|can] the server [launched|run|be started|be
        installed]?; i want to [start|run|launch|install] [it|the server|chat_web]; [can|could] you tell me
        the start command?
        """, """
        what do i type to start the server?; how does one start it?; tell me how to run the server; how
        could i launch chat_web?
        """),
        "Run `python chat_web.py` and open `http://localhost:8000`. It needs torch, tiktoken and werkzeug.",
              [r"python chat_web\.py", r"localhost:8000"]),
    "flags": (Phrases("""
        [which|what] [flags|options|command line options|arguments|parameters] [are there|exist|does the
        server have|can i use]?; list [the|all|all the] [flags|options]; what are [the|all the]
        [flags|options|command line flags]?; show me the [flags|options]; [flags|options]?; command line
        [flags|options|arguments]; [which|what] [flags|options|switches|command line flags|command line
        arguments|settings on the command line|parameters] [exist|do you know|can i set|are available|are
        supported|does it take|does chat_web.py take|does it accept|can be set|are possible|do i have]?;
        [list|show|name| print|give me] [the flags|all flags|every flag|all options|all the options|the
        command line options|the options|all the arguments|the arguments]; [flags|all flags|options
        list|command line|arguments|cli flags|cli options|list flags|flag list|usage|all
        options|switches][|?]; <tell> [which flags there are|what options exist|what flags i can use|about
        the flags|the flags|the command line options|which options i can set]; how [many flags are there|can
        i configure the server|is the server configured|do i configure it|do i see the flags]?; what can i
        [configure|set| change|set on the command line|pass on the command line]?; is there a list of
        [flags|options|all flags|arguments]?; an overview of the [flags|options]; help me with the
        [flags|options|command line]; which [command line flags|arguments] are there?; what are its
        [options|flags| arguments]?
        """, """
        give me a list of the flags; which options does it have?; tell me all the flags; what flags can i
        pass to chat_web.py?
        """),
        "The flags are `-n` GPUs, `-i` source, `-t` temperature, `-k` top-k, `-m` max tokens, `-g` model "
        "tag, `-s` step, `-p` port, `-d` dtype, `--device-type` and `--host`. Ask me about any of them.",
              [r"-n", r"-p", r"--host"]),
    "slash": (Phrases("""
        [which|what] [slash commands|commands] [are there|exist|can i use|do you have|do you know]?; list
        [the|all|all the] [slash |]commands; what are [the|all the] [slash |]commands?; [slash
        commands|commands]?; what can i type [on the page|in the chat]?; what are slash commands?; show me
        the [slash |]commands; [which|what] [slash commands|chat commands|commands] [does the page have|do
        you understand|are possible|are available|work here|work in the chat|are supported|does this page
        know|may i type|can be used]?; [list|show|name|print] [me |][the slash commands|all slash
        commands|every slash command|the chat commands|all commands|the commands of the page]; [slash
        commands|commands|command list|chat commands|list commands|all commands|slash|slash command
        list][|?]; <tell> [which slash commands there are|what commands there are|the commands|the slash
        commands you know| about slash commands|which commands i can type]; what can i [type|do] with a
        slash?; [how do i use|explain|describe|what about] [slash commands|the slash commands|commands in the
        chat]?; is there a [list of commands|command list|list of slash commands]?; are there [slash
        commands|commands|chat commands|any slash commands]?; what [happens|can i do] when i type a slash?;
        how do i change settings [in the chat|on the page|while chatting]?; commands [on the page|in the
        chat|of the chat]?
        """, """
        which commands start with a slash?; tell me the slash commands; give
        me a list of commands; what slash commands does the page have?
        """),
        "On the page you can type `/temperature`, `/topk`, `/maxtokens`, `/system`, `/clear` and `/help`.",
              [r"/temperature", r"/topk", r"/system", r"/clear", r"/help"]),
    "endpoints": (Phrases("""
        [which|what] endpoints [are there|exist|does the server have|do you have]?; list [the|all] [the
        |]endpoints; what are the [endpoints|routes|urls|api endpoints]?; [what is the|is there an|tell me
        about the] api?; [endpoints|routes|api]?; does [this|the server] have an api?; show me the
        [endpoints|routes|api]; which urls does the server have?; what routes exist?; [which|what]
        [endpoints|routes|urls|paths|api calls|http endpoints|api endpoints|api routes] [exist|are there|can
        i use|are available|does the api have|does it have|does it serve|does it offer|are supported]?;
        [list|show|name|print] [me |][the endpoints|all endpoints|every endpoint|the routes|all routes|the
        api endpoints|the urls|the api]; [endpoints|all endpoints|api|routes|http api|rest api|api
        endpoints|endpoint list|api overview|urls|paths|list endpoints][|?]; <tell> [which endpoints there
        are|what the api is|about the endpoints|about the api|the endpoints|which routes exist|what urls
        there are]; is there [an http api|an api|a rest api|any api|an interface for programs]?; how many
        endpoints [are there|does it have|exist]?; [explain| describe|what about] the
        [api|endpoints|routes|http api]; [does|do] [it|you|the server] [have|offer|provide] [an api|a rest
        api|endpoints|an http api]?; an overview of the [api|endpoints|routes]; what are its
        [endpoints|routes|urls]?
        """, """
        give me the list of endpoints; what api does the server have?; tell me the routes; which endpoints
        can i call?
        """),
        "`GET /` is the page, `POST /chat/completions` streams a reply, `GET /health` says whether the "
        "server is ready, `GET /stats` shows the workers. OpenAI clients use `/v1`.",
        [r"get /", r"post /chat/completions", r"/health", r"/stats"]),
    "completions": (Phrases("""
        what does [/chat/completions|post /chat/completions|chat completions] do?; <how> [call|use] the
        [api|chat api|endpoint|server] [from python|with curl|from code|from a program|]?; how do i send a
        [message|request|chat][| to the server| to the api]?; [/chat/completions|chat completions]?; what
        does the request [body |]look like?; what is the [request|json] format?; which json do i send?; what
        is the response format?; how does [streaming|the stream] work?; how are [replies|tokens|answers]
        streamed?; how do i use [curl|the api]?; what [fields|keys] does a request have?; <how>
        [call|use|query|reach|talk to|ask] [the api|it|the server|the model|the chat endpoint|you] [from
        python|with curl|from code|from a script|from javascript|over http|with
        requests|programmatically|without the page|from the command line|from my program]?; [how|what]
        [does|do] [a request|the body|the request body|the json|the payload|a chat request] look like?;
        [explain|describe|show me|tell me about|what about] [the chat endpoint|chat completions|post
        /chat/completions|the request format|the response format|the stream|streaming|the json body|the
        completions endpoint|a request]; what [do i|must i|should i] [send|post|put into the body|put in a
        request] [|to the server|to the api|to get an answer|to the chat endpoint]?; which
        [fields|keys|parameters|json|body] [does|do] [a request|the request|the body|the api|i send|chat
        completions] [have|take|need|accept|expect]?; what does [the api|the server|the stream|chat
        completions|the endpoint] [return|send|stream|answer|send back|give back]?; what [is the|is its]
        [request|response| stream|json|body|message] format?; [chat completions|request format|response
        format|streaming|curl example|json format|request body|/chat/completions|stream format|sse|server
        sent events|post request|python example][|?]; how [are|do] [messages|tokens|replies|events]
        [sent|streamed|look|arrive|formatted]?; how does [the api|the stream|the chat endpoint|chat
        completions|token streaming] [work|stream|look|end]?; [show|give] me [a curl example|an example
        request|an api example|a request|a sample request]; how do i [post|send] [a message|a request|a
        question|messages|json]?; how do i know that the [stream|reply] is [done|over|complete]?; is [the
        reply|the answer|it] streamed?; does it stream?; does the api stream?
        """, """
        explain /chat/completions; what do i send to /chat/completions?; how can i use the api from my
        program?; what does a request to the api look like?; how does the api stream tokens?
        """),
        "`POST /chat/completions` takes `{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}` and, "
        "if you like, temperature, top_k and max_tokens. It streams lines such as `data: {\"token\": "
        "\"Hi\", \"gpu\": 0}` and ends with `data: {\"done\": true}`.", [r"post /chat/completions",
            r"messages", r"done"]),
    "health": (Phrases("""
        what does [/health|get /health|the health endpoint|the health check] do?; [/health|health]?; what is
        /health[| for]?; <how> [check|know|see] [whether|if] the server is [ready|up|running|alive|ok]?; is
        there a health check?; what does /health [return|say|show|answer]?; explain /health; tell me about
        /health; is the server ready?; what [is|about] [the health endpoint|the health check|get
        /health|/health]?; [explain|describe|tell me about|what about] [the health endpoint|/health|the
        health check|get /health]; [/health|health|health check|health endpoint|get
        /health|readiness|liveness|server status|is it ready|server ready][|?]; <how>
        [check|know|see|tell|test|find out] [if|whether|that] [the server|it|this server|the model] is
        [ready|up|alive|healthy| loaded|running]?; <tell> [what /health does|how to check the server|how i
        see that it is ready|about the health check]; is there a [health endpoint|health check|readiness
        check|status endpoint]?; [is|are] [the server|it|the model|you] [ready|up|loaded|healthy|up and
        running]?; what does [the health endpoint|the health check|/health|get /health]
        [return|say|show|answer|give|tell]?; which endpoint [is for health|tells the status|is for
        monitoring|checks the server|do i poll]?; how do i use [/health|the health endpoint]?; where do i see
        [the status|if it is ready|whether it runs]?; what are the fields of /health?; when is the server
        ready?
        """, """
        what's /health for?; how could i see if the server is up?; can you explain the health endpoint?;
        which endpoint says if it is ready?
        """),
        "`GET /health` says whether the server is ready: `status`, `ready`, `num_gpus` and "
        "`available_workers`.", [r"get /health", r"ready", r"available_workers"]),
    "stats": (Phrases("""
        what does [/stats|get /stats|the stats endpoint] do?; [/stats|stats]?; what is /stats[| for]?; <how>
        see [the workers|how many workers are busy|the load|which gpus are used]?; how many workers are
        [busy|free|there]?; what does /stats [return|say|show|answer]?; explain /stats; tell me about /stats;
        where do i see the workers?; what [is|about] [the stats endpoint|get /stats|/stats|the statistics]?;
        [explain|describe|tell me about|what about] [the stats endpoint|/stats|the statistics|get /stats];
        [/stats|stats|statistics|stats endpoint|get /stats|workers|busy workers|worker list|load][|?]; <how>
        [see|check|know|get|monitor|list] [the workers|the load|the statistics|which workers are busy|how
        many workers are free|the state of the gpus|the busy gpus|how many workers there are]?; <tell> [what
        /stats does|how many workers are busy|how to see the workers|about the stats]; how many
        [workers|gpus] are [busy|free|available|in use|running|there now|idle]?; which [workers|gpus] are
        [busy|free|available|in use]?; what does [the stats endpoint|/stats|get /stats]
        [return|say|show|answer|give|tell|list]?; which endpoint [lists the workers|is for statistics|tells
        the load|has the stats]?; how do i use [/stats|the stats endpoint]?; are there [statistics|stats]?;
        where are the [stats|statistics|workers]?; is there a [stats endpoint|list of workers|stats page]?
        """, """
        what's /stats for?; which endpoint shows the workers?; can you explain the stats endpoint?; how do i
        see busy workers?
        """),
        "`GET /stats` shows the workers: how many there are, how many are available or busy, and the device "
        "of each.", [r"get /stats", r"workers", r"busy"]),
    "page": (Phrases("""
        what does [get /|the root] do?; where is the [page|chat page|web page|ui|interface|user interface]?;
        what is the [url|address] of the [page|chat|server]?; how do i open the [page|chat|ui]?; which
        [url|address] [do i open|is it]?; is there a [web page|web ui|user interface]?; where do i open it?;
        where [is|do i find|can i see|do i see] [the ui|the chat|the web page|the chat page|the web
        interface|the chat window|the web ui]?; what [is|'s] [the url|the address|its url|its address|the
        link] [|of the page|of the ui|of the chat|of the chat page|to open|for the browser]?; which
        [url|address|link|page] [do i|must i|should i|can i] [open|visit|go to|type|use|load]?; <how>
        [open|see|reach|visit|get to|load|find] [the page|the chat page|the ui|the chat|the web interface|the
        web ui]?; [url|address|web page|chat page|ui|the page|web ui|browser|get /|user interface|page
        url|link][|?]; <tell> [where the page is|the url of the chat|the address of the page|where i open the
        chat|how to open the page]; is there [a page|a chat page|a web interface|a ui|a browser interface|a
        gui|a frontend]?; [can|do] i [chat|use it|open it|talk to it] in [a|my|the] browser?; what is
        [at|on|behind] [the root|get /|/]?; what does [get /|the root url|the start page]
        [show|serve|do|return]?; where do i [go|click|chat|look] [|in the browser|to chat|to see the page]?
        """, """
        where can i find the chat page?; which address do i open in the browser?; what's the url of the page?
        """),
        "`GET /` is the chat page. Open `http://localhost:8000` in a browser, or the port that you chose "
        "with `-p`.", [r"get /", r"localhost:8000"]),
    "where": (Phrases("""
        where [do|should|must] [checkpoints|models|the checkpoints|my checkpoints|my models|the files|model
        files] [go|be|live|be stored]?; where [are|is] [the |]your [weights|checkpoint|files|model file]?;
        where does [the server|it] look for [models|checkpoints|a checkpoint|a model]?; which
        [folder|directory] [are models|are checkpoints|is the model|is the checkpoint] in?; where do i put
        [checkpoints|my checkpoints|the tokenizer|my files|the weights]?; what is the [folder layout|file
        layout|directory structure|folder structure]?; what is [nanochat_base_dir|NANOCHAT_BASE_DIR]?; how
        are the [files|checkpoints] [named|laid out]?; which files [do i need|are needed|does a model need]?;
        checkpoint [folder|directory|path|location]?; where is the tokenizer?; where [do|should|must|can]
        [my|the|our] [checkpoints|models|weights|model files|checkpoint files|files|tokenizer|tokenizer file]
        [go|be|live|be stored|be saved|be put|lie|belong]?; where [does|will] [it|the server|chat_web|this]
        [look|search|look for models|look for checkpoints|find models|find my model|read checkpoints
        from|load from|expect the files|search for models|load models from]?; where [are|is|lies|lie]
        [the|my|your] [checkpoints|models|weights| model files|tokenizer|checkpoint folder|model folder|base
        directory|tokenizer.pkl] [|stored|kept|saved|located|found]?; [in|into] [which|what]
        [folder|directory| place|path] [do models go|are the models|is the tokenizer|do i put the
        tokenizer|does it look|do i put checkpoints|are the weights|do i copy a checkpoint]?; [checkpoint
        folder|model folder|checkpoint path|folder layout|file layout|NANOCHAT_BASE_DIR|nanochat base
        dir|base dir|base directory|model path|checkpoint location|checkpoint files|tokenizer path|directory
        layout|file names][|?]; [explain|describe|show me|tell me about|what about] [NANOCHAT_BASE_DIR|the
        folder layout|the checkpoint folder|the file layout|the directory structure|the base directory];
        <tell> [where checkpoints live|where the models are|where to put checkpoints|where it looks for
        models|the folder of the checkpoints|which files it needs|how the files are named]; [which|what]
        files [does it need|must there be|are read|make a model|does the server need|are in the folder|belong
        to a checkpoint]?; what is the [path|folder|directory|location] [of|for] [the
        checkpoints|checkpoints|the models|the tokenizer|the weights|model files]?; how [are|do i name|should
        i name] the [checkpoints|checkpoint files|folders| model files][| named| laid out]?; <how>
        [set|change|use] [NANOCHAT_BASE_DIR|the base directory|the model folder|the checkpoint folder]?
        """, """
        in which folder do checkpoints go?; where must i put the model files?; tell me where checkpoints are
        stored; what does NANOCHAT_BASE_DIR do?; where does it find the checkpoints?
        """),
        "Checkpoints live in `~/.cache/nanochat`, or in the folder that `NANOCHAT_BASE_DIR` "
        "names:\n\n```\nchatsft_checkpoints/d20/model_000650.pt\nchatsft_checkpoints/d20/meta_000650.json\n"
        "tokenizer/tokenizer.pkl\n```", [r"~/\.cache/nanochat", r"nanochat_base_dir", r"tokenizer\.pkl"]),
    "limits": (Phrases("""
        what are the [limits|limits of the server|restrictions]?; [which|what] limits [are there|does the
        server have|exist]?; [limits|abuse limits]?; how many [messages|characters] [can i send|are
        allowed|can a request have|fit]?; how long [can|may] a [message|conversation|chat|prompt] be?; is
        there a limit[| on messages| on the length]?; maximum [message|conversation] length?; what is the
        [maximum|max|biggest|longest] [message|conversation][| size| length]?; how [big|long] can my message
        be?; what is the message limit?; how high can [the temperature|top-k|max tokens] go?; what
        [temperature|top-k|max tokens] values are allowed?; [what|which] [are|is] the [limits|size
        limits|request limits|limit on messages|limit of characters|maximum request size|message limit|length
        limit|limits for requests|abuse limits|maximum values|allowed values|allowed ranges]?;
        [limits|limit|restrictions|message limit|max message length|maximum length|abuse limits|size
        limits|request limits|character limit|max characters|max messages|clamping|ranges|allowed range][|?];
        how [many|much] [messages|characters|text|words|turns] [may|can|could] [i|a request|a message|one
        request|a conversation|a chat] [send|have|hold|contain|be|include]?; how [long|big|large]
        [can|may|is|could] [a message|a request|the text|my text|a prompt|the conversation|my question|a
        conversation] [|be|get|become|at most]?; is there a [limit|maximum|length limit|message limit|size
        limit|character limit|limit on length|limit for messages|cap|max length][| on the number of messages|
        for characters| on the temperature| on top-k]?; what is the
        [longest|largest|highest|maximum|max|biggest] [message|text|prompt|request|temperature|top-k|number
        of messages|number of characters|max tokens|conversation] [|allowed|i can send|i can
        set|possible|there is]?; <tell> [what the limits are|how long a message can be|how many messages i
        can send|about the limits|the limits|the maximum length]; [are|is] [the input|messages|requests|the
        length|my text|the temperature|anything] [limited|clamped|restricted|capped]?; what [range|values]
        [can|may|does] [the temperature|top-k|max tokens] [have|take|be]?; how [high|low|large|big|far] can
        [i set |][the temperature|top-k|max tokens|temperature] [|go|be]?; [explain|describe|list|show me]
        the [limits|restrictions|abuse limits]; can i send [a very long text|10000 characters|1000 messages|a
        whole book|long messages]?
        """, """
        tell me the limits of this server; are there any limits?; how long may my message get?; how many
        messages can one request have?; what's the limit for messages?
        """),
        "At most 500 messages per request, 8,000 characters per message and 32,000 in all. Temperature is "
        "kept within 0 to 2, top-k within 0 to 200, max tokens within 1 to 4,096.", [r"500 messages",
            r"8,000", r"32,000", r"4,096"]),
    "gpu": (Phrases("""
        do i need a gpu?; does [it|this|the server] [need|require] [a gpu|cuda|a graphics card]?; can
        [it|this|the server] run [on a cpu|without a gpu|on a mac|on my laptop|on a laptop]?; does it
        [work|run] on [cpu|a mac|windows|a cpu]?; what hardware do i need?; is a gpu
        [needed|required|necessary]?; which devices [are supported|work]?; [do i|does it|does the server|does
        this|do you|does one] [need|require|want] [a gpu|cuda|an nvidia card|a graphics card|special
        hardware|nvidia|gpus|a big machine]?; [can|does|will|would] [it|this|the server|you] [run|work|start]
        [on|with] [a cpu|cpu only|only a cpu|cpus|a mac|my mac|apple silicon|m1|a laptop|an old
        laptop|windows|no gpu|mps|amd|a small machine|a raspberry pi]?; [is|are] [a gpu|gpus|cuda|an nvidia
        card|a graphics card|special hardware] [needed|required|necessary|mandatory|a must]?; [gpu|gpu
        needed|cpu only|without gpu|hardware|hardware requirements|mac|cuda|mps|apple|no gpu|cpu|system
        requirements][|?]; <tell> [if i need a gpu|whether it runs on a cpu|what hardware i need|which
        hardware is needed|if it works on a mac]; [what|which] [hardware|machine|computer|gpu|graphics
        card|devices] [does it need|is needed|do i need|does it run on|is required|is enough|works|does it
        support]?; i [have|got|own] [no gpu|only a cpu|a mac|no graphics card|just a laptop|only a laptop][|,
        does it work|, is that enough|, can i run it|. what now]?; what [if|about] [i have no gpu|a cpu|a
        mac|no gpu|macs|cpus|laptops]?; works [without a gpu|on cpu|on mac]?; is [a cpu|a laptop|a mac|my
        cpu] [enough|ok|supported|fast enough|fine]?
        """,
        "will it run without a gpu?; is a gpu required for this?; can i run the server on my laptop?"),
        "No GPU is needed: it runs on a CPU, on a Mac with `--device-type mps`, or on one or more CUDA GPUs "
        "with `-n`.", [r"cpu", r"--device-type mps"]),
    "stop": (Phrases("""
        <how> [stop|quit|exit|end|shut down|kill] [the server|it|this server]?; stop the server; how do i
        turn it off?; how to quit?; how do i close the server?; <how> [stop|quit|exit|end|shut
        down|kill|terminate|close|halt|turn off|switch off] [the server|it|chat_web|chat_web.py|the chat
        server|the process|the program]?; [stop|quit|exit|kill|shut down|close|end|terminate|halt|turn off]
        [the server|it|this server|chat_web|the process]; [what|which] [key|keys|command] [stops|
        quits|ends|kills|closes] [it|the server|chat_web]?; [shutdown|stop server|quit|exit|how to stop|kill
        server|shut down|stop it][|?]; <tell> how [to stop it|the server is stopped|to quit|to shut it down|i
        stop the server|to end the server]; how does one [stop|quit|end|shut down] [it|the server]?; how
        [is|can] the server [stopped|be stopped|shut down|be shut down|ended]?; when i am done, how do i
        [stop it|close it|end it]?; [can|could] i [stop|quit|kill|close] [it|the server]?; i [need|would
        like] to [stop|shut down|kill|close] [it|the server]
        """, """
        how could i turn the server off?; what do i press to stop the server?; i want to stop the server
        """),
        "Press Ctrl+C in the terminal where the server runs.", [r"ctrl\+c"]),
    "tag": (Phrases("""
        which model does it load[| by default]?; what model is [loaded|used] by default?; which
        [checkpoint|step|tag] is [loaded|used][| by default]?; how does it [choose|pick|find] [the model|a
        model|a checkpoint]?; what if i have [several|many|two] [models|checkpoints]?; what does d20 mean?;
        when is the demo model used?; why do i see the demo model?; why was the demo model loaded?; which
        [model|checkpoint|step|tag] [does it|will it|does the server|is it going to|would it]
        [load|take|use|choose|pick|start with] [|by default|if i say nothing|without flags|without -g|on its
        own]?; [what|which] is the default [model|checkpoint|tag|step]?; how [does|will] [it|the server]
        [choose|pick|find|select| decide on] [the checkpoint|a model|the model|which model to load|a
        checkpoint|the tag|the step|between models]?; what [if|happens if|when] [there are|i have]
        [several|many|two|no|more] [checkpoints|models|tags|steps]?; [default model|default checkpoint|which
        checkpoint|model choice|d20|default tag|default step|automatic model|d12][|?]; what [is|does]
        [d12|d20|d26|d32|a tag like d20|the d in d20] [|mean|stand for]?; when [is|does] the [demo|demo
        model] [loaded|used| started|chosen|start|appear]?; why [is|was|am i seeing|do i get|did it load|does
        it load|did it start] [the demo|the demo model|the tiny model] [|loaded|used|and not mine|instead of
        mine]?; <tell> [which model it loads|how it picks a model|which checkpoint is the default|why i see
        the demo model|what d20 means]; does it [load|take|use|pick] the
        [largest|biggest|last|newest|latest|deepest] [model|checkpoint|step]?; which of [my checkpoints|two
        models|several checkpoints|the models] [is loaded|is used|does it take|does it load]?; is the
        [newest|largest|last|biggest] [model|checkpoint] [loaded|used]?
        """, """
        which of my models will it load?; how does the server pick a checkpoint?; why is the demo model
        running?
        """),
        "Without `-g` the tag `d<N>` with the largest N is loaded, without `-s` its last step. The demo "
        "model is used only when there is no checkpoint and nothing was asked for.", [r"largest n",
            r"last step", r"no checkpoint"]),
    "formats": (Phrases("""
        [which|what] [models|checkpoints|architectures] [are supported|can it load|can i load|work]?; does it
        [load|support|work with] [old|older|all|new|every] [nanochat |][checkpoints|models]?; can it
        [load|run] [llama|gpt-2|hugging face|gguf|other] models?; are [old|older] [checkpoints|models]
        supported?; will my old [checkpoint|model] work?; [which|what]
        [models|checkpoints|architectures|model formats|formats|kinds of checkpoints|versions of nanochat]
        [does it|can it|does the server|will it] [load|run|support|understand|read|accept]?; [does|can|will]
        [it|the server|this] [load|run|support|read|work with|open|accept] [old checkpoints|older
        checkpoints|all nanochat models|every nanochat model|llama|gpt-2|gguf|hugging face
        models|safetensors|pytorch models|mistral|qwen|other models|other formats|new checkpoints|models from
        last year|any model]?; [are|is] [gguf|llama|hugging face|gpt-2|old models|older checkpoints|new
        models|other models|all architectures|every version] [supported|possible|ok|loaded too|understood]?;
        [supported models|model formats|formats|gguf|hugging face|llama models|architectures|old
        checkpoints|compatibility|supported architectures|gpt-2|safetensors][|?]; <tell> [which models are
        supported|what it can load|which architectures work|if old checkpoints work]; what about [old
        checkpoints|older models|llama models|gguf files|gpt-2|other architectures|hugging face models]?;
        [will|does] [an old|an older|my old|a new|last year's] [checkpoint|model|nanochat model] [still
        |][load|work|run]?; only nanochat [models| checkpoints]?; i have an [old|older] [checkpoint|model],
        [does it work|will it load|can i load it]?; which [nanochat versions|versions] [work|are supported]?
        """, """
        is my old nanochat checkpoint supported?; what kind of models can the server load?; can the server
        load older models?
        """),
        "It loads every architecture that nanochat has ever trained, old and new, and nothing else.",
                [r"every architecture", r"nothing else"]),
    "temperature idea": (Phrases("""
        what is temperature?; what does temperature mean?; explain temperature; what is [sampling|top-k
        sampling|greedy decoding]?; how does [temperature|sampling|top-k] work?; what is the difference
        between temperature and top-k?; what temperature should i use?; why are your answers
        [different|random]?; why do you answer differently each time?; what [is|does|are]
        [temperature|sampling|greedy decoding|top-k sampling|a low temperature|a high temperature|greedy
        sampling] [|mean|do|for|in a language model|about]?; [explain|describe|tell me about|what about]
        [temperature|sampling|greedy decoding|the difference between temperature and top-k|how you
        sample|randomness|how tokens are drawn|what temperature means]; how [do|does] [you|the model|it|this
        model] [choose|pick|select|draw] [the next token|tokens|words|the next word|its words|your words]?;
        why [are|is|do|does] [the answers|your answers|each answer|the reply|answers|replies|every reply]
        [random|different every time|not the same|always different|vary|different each time|change]?;
        [which|what] temperature [is best|is good|do you recommend|should i take|should i set|makes sense]?;
        [what's temperature|sampling|greedy|randomness|temperature meaning|top-k meaning|why random|next
        token|temperature vs top-k][|?]; <tell> [what temperature means|what sampling is|how sampling
        works|why your answers differ|what greedy means|how you pick words]; what [does|happens with]
        [temperature 0|a low temperature|a high temperature|temperature zero] [|do|mean]?; why do [you|i]
        [say something else each time|get different answers|get another answer each time|change your
        answer|not answer the same]?; [is|are] [the sampling|your answer|your answers|the tokens|it] random?;
        how random [are you|is it|are the answers]?
        """, """
        can you explain what sampling is?; what does sampling mean?; what is the idea of temperature?; why is
        every answer different?
        """),
        "Each token is drawn at random. A low temperature prefers likely tokens, 0 always takes the "
        "likeliest; top-k keeps only the k likeliest.", [r"low temperature", r"likeliest"]),
    "demo dir": (Phrases("""
        <how> [start|run|load|use] the demo model?; <how> start [you|the demo] [again|myself]?; what command
        starts [you|the demo model]?; how was this demo started?; run the demo model; <how>
        [start|run|load|use|launch|try|get|open|serve] [the demo|the demo model|this demo model|the tiny
        model|the demo again|this demo|the model in demo| you again]?; [what|which] command
        [starts|runs|loads|launches|is for] [the demo|the demo model|you|this demo|the tiny model]?;
        [start|run|launch|load|try] [the demo|the demo model|this demo|the tiny model]; [demo|run demo|demo
        model|start demo|demo command|launch demo][|?]; <tell> how [to start the demo model|to start you|the
        demo is started|i run the demo model|to load the demo]; how [is|was|can] [the demo|the demo model|the
        tiny model] [started|loaded|launched|be started|be loaded| run]?; how [did i|did someone|was] [start
        you|run you|load you|you started|you launched|you loaded]?; i [want|would like] to
        [run|start|try|use] the [demo|demo model|tiny model][| again]; can i [start|run|load|use] [you|the
        demo|the demo model] [again|later|myself|at home|tomorrow]?; how do i get [you|the demo] back?; how
        do i [run|start] the folder demo?
        """, """
        how do i get the demo model running?; what do i type for the demo model?; tell me how to run the demo
        """),
        "Run `NANOCHAT_BASE_DIR=demo python chat_web.py`, or plain `python chat_web.py` when you have no "
        "checkpoint of your own.", [r"nanochat_base_dir=demo", r"python chat_web\.py"]),
    "login": (Phrases("""
        is there a [login|password|user account|token|api key]?; do i need [an api key|a password|an
        account]?; does [it|the server] [support|have|do]
        [https|tls|ssl|authentication|auth|passwords|encryption]?; <how> [protect|secure] the server?; <how>
        [set|add] a password?; is [it|the server] [safe|secure|open to everyone]?; who can [use|reach|see]
        [it|the server|my server]?; can other people [use|reach] it?; is there [a|any|some]
        [login|password|user management|authentication|access
        control|encryption|security|account|https|protection|auth| tls]?; [do i|do we|do users|does one|do
        clients] need [a login|a password|an account|to log in|an api key|a token|to sign up|credentials|to
        sign in]?; [does|has| can] [it|the server|this|this server] [have|support|use|do|offer|come with] [a
        login|https|tls|ssl|passwords|encryption|users|api keys|authentication|accounts|a
        password|security]?; [login|password|https|authentication|auth|security|tls|api
        key|ssl|access|encryption|accounts|is it secure|who can reach it|user accounts][|?]; <how>
        [secure|protect|lock|hide|restrict|close off|make secure|limit access to] [it|the server|this
        server|my server|the chat]?; <how> [add|set|enable| use|turn on|require] [https|tls|a login|a
        password|authentication|ssl|encryption|an api key]?; [who|which people] [can|could|may]
        [reach|use|see|access|open|get at|connect to] [it|the server|this server|the chat|the page|the
        port]?; [can|could|will|may] [anyone|others|somebody else|strangers|other people|people on my
        network|everybody|my neighbours] [use|reach|see|access|open|connect to] [it|the server|my server|the
        chat|the page]?; [is|are] [it|the server|the connection|the traffic|this server|the page]
        [encrypted|public|open|protected|secure|safe|password protected|open to all|reachable from
        outside|exposed]?; <tell> [if there is a login|if it is secure|how to secure it|who can reach the
        server|if i need a key|how to add a password]; what about [security|https|a login| authentication|a
        password|tls]; can i put [a password|a login|https] on it?; is it safe to [expose|put online|open]
        [it|the server|this server]?
        """, """
        does the server have a login?; do i need a key for the api?; how could i make the server secure?; can
        everyone reach my server?
        """),
        "There is no login and no HTTPS: whoever reaches the port can chat. Use `--host 127.0.0.1` to keep "
        "it to your machine, or put a proxy in front.", [r"no login", r"--host 127\.0\.0\.1"]),
    "busy": (Phrases("""
        what happens [when|if] all workers are busy?; how many [users|people|requests|clients] can [chat|use
        it|it serve] at once?; can [several|many|two] people [chat|use it] at [once|the same time]?; what
        does [503|error 503|a 503] mean?; why do i get [503|error 503]?; do requests wait?; is there a
        queue?; what [happens|does it do|does the server do|comes] [when|if] [all workers are taken|it is
        overloaded|many people ask|the server is busy|too many requests come|all gpus are busy|ten people
        chat|everyone asks at once|no worker is free|there are too many requests]?; how many
        [users|people|requests|clients|chats| conversations] [at once|can it handle|can it serve|can use the
        server|does it serve at the same time|can it take|can run at the same time|in parallel]?;
        [can|could|may] [several|many|multiple|ten|three|more] [people|users|clients|friends|requests]
        [chat|use it|use the server|connect|ask|be served] [at once|at the same time|together|in parallel]?;
        [503|error 503|http 503|busy|queue|retry-after|overloaded|concurrency|parallel requests| server
        busy|waiting|many users|503 error][|?]; [what|why] [is|does|do i get|do i see|did i get] [a 503|error
        503|http 503|the 503 error|503|retry-after|status 503] [|mean|for|about]?; [is|are] [requests|a
        request|there|users] [queued|a queue|waiting|put in a queue|a waiting line|batched]?; <tell> [what
        happens when it is busy|how many people can chat|what 503 means|how many users it serves|if requests
        wait]; does [it|the server|a request] [queue|wait|wait for a worker|queue requests|handle many
        users|serve several users|scale]?; why [must|do] i wait?; why is it [busy|waiting|not answering]?;
        what about [many users|a full queue|several users]?
        """, """
        what if every worker is busy?; can two people chat together?; what is a 503 error?
        """),
        "A request takes one worker and waits for a free one. When too many wait, the answer is 503 with "
        "`Retry-After`. With `-n` there is one worker per GPU.", [r"503", r"one worker"]),
    "too long": (Phrases("""
        what happens [when|if] [the|a|my] [chat|conversation] [is|gets|becomes|grows] too long?; what if the
        context is full?; why did you forget [what i said|the start|my first message]?; are old messages
        dropped?; what is [X-Dropped-Messages|x-dropped-messages|the dropped messages header]?; when do you
        forget [things|messages]?; what happens to old messages?; what [happens|do you do|does the server
        do|does it do] [when|if] [the conversation|the chat|a chat|our chat|my conversation|the context] [is
        too long|gets too long|grows|is full|gets full|gets long|outgrows the context|does not fit|no longer
        fits|exceeds the context]?; [why|when|how] [do|did|does|will] [you|it|the model|the server]
        [forget|drop|lose|cut|remove] [the beginning|the start|old messages|my first message|what i said
        before|the oldest messages|earlier messages|what i told you|the first turns]?; [are|will]
        [old|older|early|the oldest|the first] [messages|turns] [dropped|removed|forgotten|cut|kept|deleted|
        be dropped|be lost]?; [X-Dropped-Messages|x-dropped-messages|dropped messages|context full|too
        long|long conversations|truncation|context overflow|old messages|long chat][|?];
        [explain|describe|what does|tell me about|what about] [X-Dropped-Messages|the dropped messages
        header|dropped messages|the header x-dropped-messages|long conversations|the truncation]; what
        [if|about] [the chat is too long|a very long chat|long conversations|the context is too small|my chat
        gets long|it gets too long|old messages]?; <tell> [what happens to old messages|what happens in a
        long chat|when messages are dropped|why you forgot it|what x-dropped-messages means]; [which|what]
        messages [are|get|will be] [dropped|forgotten|removed|left out|cut]?; how [are|do you handle|does it
        handle|is] [long conversations|long chats|a long chat|a full context|messages dropped]
        [|handled|treated]?; what [is|was] dropped?; you forgot [what i said|the beginning|the start|my first
        message], why?
        """, """
        what happens if our conversation gets very long?; when are messages dropped?; why do you forget old
        messages?
        """),
        "When a conversation outgrows the context, whole turns are dropped from the oldest on. The header "
        "`X-Dropped-Messages` says how many.", [r"oldest", r"x-dropped-messages"]),
    "copy": (Phrases("""
        can i [copy|use] [it|this|the server] [in|into|with] [my|a] nanochat [checkout|repo|folder]?; <how>
        [copy|add|put] [it|the server|this] into nanochat?; which files [do i copy|must i copy|are the
        server]?; does it work [inside|with] nanochat?; what is python -m scripts.chat_web?; do i need
        nanochat[| installed]?; does it import nanochat?; [can|could|may|should] i
        [copy|use|put|move|place|add|drop] [it|this|the server|the files|chat_web.py|the code]
        [in|into|inside|with] [my|a|the|our] [nanochat|nanochat repo|nanochat checkout|nanochat
        folder|checkout|nanochat clone|research repo]?; <how>
        [use|put|copy|install|integrate|run|add|include] [it|the server|this|chat_web|this server]
        [in|into|inside|with|within] [nanochat|my nanochat repo|a nanochat checkout|the nanochat folder|my
        checkout]?; [do i|does it|does this|does the server] [need|require|import|depend on|use|want]
        [nanochat|nanochat itself|nanochat to be installed|the nanochat code|the nanochat package|a nanochat
        checkout]?; [is|must|should] nanochat [be installed|required|necessary|be there|a
        dependency|imported|installed first]?; which [files|of the files|parts|source files] [belong to the
        server|do i copy|should i copy|make up the server|do i need to take|are needed to copy|must be
        copied|go into scripts]?; [python -m scripts.chat_web|nanochat needed|copy files|inside
        nanochat|nanochat checkout|copy into nanochat|scripts folder|without nanochat|four files][|?]; what
        [is|does|about] [python -m scripts.chat_web|scripts.chat_web|the scripts folder|using it inside
        nanochat] [|do|for|mean]?; <tell> [if i need nanochat|how to use it with nanochat|which files to
        copy|whether nanochat is needed]; does it [run|work|start] [without nanochat|inside nanochat|in a
        nanochat checkout|from scripts|with my nanochat repo]?; where in nanochat do i put it?
        """, """
        how could i use the server inside my nanochat checkout?; which files do i need to copy?; is nanochat
        needed for this server?
        """),
        "nanochat itself is not needed. Copy `chat_web.py engine.py checkpoint.py ui.html` into its "
        "`scripts/` if you like, and run `python -m scripts.chat_web`.",
        [r"not needed", r"python -m scripts\.chat_web"]),
    "openai": (Phrases("""
        is the api [openai compatible|compatible with openai|like openai|the openai api]?; can i use the
        openai [client|library|package|sdk]?; does it [speak|support] the openai api?; openai
        [compatible|api]?; [is|does] [the api|it|this|this api|the server|your api] [openai-compatible|openai
        compatible|support openai|speak openai|like openai's|the same as openai's|openai style|follow
        openai|compatible with the openai sdk|speak openai's protocol|have an openai endpoint|imitate
        openai]?; [can|could|may] i [use|connect| point|plug in|take] [openai clients|the openai python
        client|openai's library|the openai sdk|an openai client|langchain|open webui|llm|openai's python
        package|the openai package|an openai compatible client][| with it| here| with this server| at it]?;
        [openai|openai compatible|openai api|openai client|openai sdk| openai
        protocol|/v1/chat/completions|v1 api|/v1/models|open webui|openai endpoint|/v1|base url][|?];
        [what|how] [is|about] [the openai api|openai|the openai
        protocol|/v1/chat/completions|/v1/models|openai compatibility|open webui|openai clients]?;
        [does|will|do|would] [openai clients|the openai library|the openai sdk|open webui|the openai
        package|openai's client|existing openai code|my openai code] [work|connect|run|work here|run with
        it]?; <tell> [if it speaks openai|about the openai api|how to use the openai client|whether openai
        clients work|if the api is like openai's]; what does [/v1/chat/completions|/v1/models|the openai
        endpoint] do?; which [base url|url] [do i give to|for|is for] [the openai client|openai|openai
        clients|open webui]?; how do i [use|connect|set up] [the openai client|openai clients|open webui|the
        openai sdk|openai's library]?; is there [an openai endpoint|openai support|a /v1 api|a v1 endpoint]?;
        what is the [openai base url|base url for openai]?
        """, """
        does the openai client work with this server?; is this api compatible with openai?
        """),
        "Yes, OpenAI clients work: give them the base URL `http://localhost:8000/v1`, with any key and any "
        "model name.", [r"^yes", r"localhost:8000/v1"]),
}

MEMORY = {  # what can be told, how it is asked for later, and how the answer is worded
    "name": (Phrases("""
        my name is {x}; i'm {x}; i am {x}; call me {x}; you can call me {x}; hi, i'm {x}; hello, my name is
        {x}; the name's {x}; people call me {x}; hey, {x} here;
        my first name is {x}; my friends call me {x}; you are talking to {x}; {x} is what people call me; i
        was named {x}; my parents named me {x}; it is {x} who [writes|speaks]; {x} here; name's {x}; hey,
        it's {x}; [hi|hello|hey], {x} [here|is my name]
        """,
        "hi there, my name is {x}; hello, i am {x}; please call me {x}"),
             "[Nice to meet you, {x}!|Hello, {x}!|Hi {x}, nice to meet you!][| 😊| I will remember that.]",
             Phrases("""
                 what's my name?; what is my name?; who am i?; do you [know|remember] my name?; tell me my
                 name; say my name; whats my name; do you remember who i am?; what did i say my name was?;
                 how am i called?; my name?; can you remember my name?; what was my name[| again]?
                 """, """
                 do you still know my name?; so what is my name again?; can you tell me what my name is?;
                 please say my name; remember my name?
                 """),
             "Your name is {x}."),
    "colour": (Phrases("""
        my <fav> [colour|color] is {x}; i like the [colour|color] {x}; i love the [colour|color] {x}; {x} is
        my <fav> [colour|color]
        """,
        "the [colour|color] that i like most is {x}; remember that my <fav> [colour|color] is {x}"),
               "{x} is a [nice|lovely|great] colour.[| I will remember that.]",
               Phrases("""
                   <whats> my <fav> [colour|color]?; which [colour|color] do i like?; do you [know|remember]
                   my <fav> [colour|color]?; my <fav> [colour|color]?; what [colour|color] do i like[| best]?
                   """, """
                   which [colour|color] is my <fav>?; do you still remember my <fav> [colour|color]?; what
                   [colour|color] did i say i like?
                   """),
               "Your favourite colour is {x}."),
    "number": (Phrases("""
        my [lucky|favourite|favorite] number is {x}; my number is {x}; remember the number {x}; please
        remember {x}; i like the number {x}; {x} is my [lucky|favourite|favorite] number; keep the number {x}
        in mind;
        {x} is [the number|my number|a number to remember]; my number: {x}; number {x}, remember it; keep {x}
        in mind; my chosen number is {x}; i pick the number {x}
        """,
        "remember that my lucky number is {x}; the number to remember is {x}"),
               "[Got it|OK|All right], your number is {x}.",
               Phrases("""
                   <whats> my [|lucky |favourite |favorite ]number?; which number did i [tell you|say|ask you
                   to remember]?; do you [know|remember] my [|lucky |favourite ]number?; what was [the|my]
                   number[| again]?; what number did i give you?; which number do i like?
                   """, """
                   can you still remember my number?; what number did i tell you to remember?; tell me the
                   number that i gave you
                   """),
               "Your number is {x}."),
    "city": (Phrases("""
        i live in {x}; i'm from {x}; i am from {x}; i come from {x}; my home is {x}; my city is {x}; i am
        living in {x}; my hometown is {x}; my place is in {x}; i have a flat in {x}; {x} is [my city|where i
        come from|my town|my home town|the place i live]; home is {x} for me; i am based in {x}; i grew up in
        {x}; my house is in {x}; i have my home in {x}
        """,
        "the city where i live is {x}; hey, i live in {x}"),
             "{x} [sounds nice|must be nice|is a good place to be]!",
             Phrases("""
                 where do i live?; where am i from?; which city [do i live in|am i from]?; <whats> my
                 [city|home|hometown]?; do you [know|remember] where i live?; where do i come from?; what
                 city do i live in?
                 """,
                 "can you remember where i live?; tell me where i live; what is the city i live in?"),
             "You live in {x}."),
    "pet": (Phrases("""
        my [dog|cat|pet] is [called|named] {x}; my [dog|cat|pet]'s name is {x}; i have a [dog|cat|pet]
        [called|named] {x}; the name of my [dog|cat|pet] is {x};
        {x} is [my pet's name|my dog's name|my cat's name|what i call my pet|the name of my pet|the name of
        my dog]; at home i have a [dog|cat|pet], {x}; my [dog|cat|pet] answers to {x}; our [dog|cat] is
        [called|named] {x}; i own a [dog|cat] called {x}; my [dog|cat|pet]: {x}; my [dog|cat|pet] is {x}
        """,
        "my little [dog|cat] is called {x}; i've got a [dog|cat] named {x}"),
            "{x} is a [cute|lovely|good] name! 🐾",
            Phrases("""
                <whats> [my pet's name|the name of my pet|my pet called]?; what is my [dog|cat|pet] called?;
                what is my [dog|cat|pet]'s name?; do you [know|remember] my pet's name?; what did i call my
                [pet|dog|cat]?; my pet's name?; what is the name of my [dog|cat|pet]?
                """,
                "do you remember what my pet is called?; say my pet's name; how is my pet called?"),
            "Your pet is called {x}."),
    "food": (Phrases("""
        my <fav> food is {x}; i [love|like] eating {x}; {x} is my <fav> food; i like to eat {x}; the food i
        like [best|most] is {x};
        {x} is [what i like to eat|my kind of food|what i love to eat|my favourite dish]; i like {x}
        more than any other food; i am crazy about {x}, i eat it every day; for dinner i always want {x}
        """,
        "my <fav> thing to eat is {x}; the food that i love is {x}"),
             "[Yum|Tasty], {x}! 😋",
             Phrases("""
                 <whats> my <fav> food?; what do i like to eat?; do you [know|remember] my <fav> food?; which
                 food do i like?; what food do i like[| best]?
                 """, """
                 do you still know what i like to eat?; which food is my <fav>?; what did i say i like to
                 eat?
                 """),
             "Your favourite food is {x}."),
    "age": (Phrases("""
        i am {x} years old; i'm {x} years old; my age is {x}; i am {x} years of age; i just turned {x}; i am
        {x}, that is my age; {x} is my age; {x} years old, that's me; my age in years: {x}; i have lived for
        {x} years; this year i turned {x}; i'm {x} years of age
        """,
        "i'm now {x} years old; my age? i am {x} years old"),
            "{x} is a [fine|good|great] age!",
            Phrases("""
                how old am i?; <whats> my age?; do you [know|remember] [my age|how old i am]?; my age?; tell
                me my age
                """,
                "can you tell me how old i am?; how old did i say i am?; do you still know my age?"),
            "You are {x} years old."),
    "job": (Phrases("""
        i am a {x}; i'm a {x}; i work as a {x}; my job is {x}; my job: {x}; [my profession|my work|my
        occupation|what i do] is {x}; i am employed as a {x}; i earn my money as a {x}; i am a {x} by trade;
        for work i am a {x}; {x} is my [job|profession|occupation]; i've always been a {x}; i work as {x}; my
        job is that of a {x}; as a job i am a {x}; at work i am the {x}; i trained to be a {x}; i am working
        as a {x} [now|here|these days]
        """,
        "my work is being a {x}; i have a job as a {x}"),
            "[Being a {x} is|That is] a [fine|good|great] job, {x}!",
            Phrases("""
                <whats> my job?; what do i do[| for a living| for work]?; do you [know|remember] my job?;
                what is my work?; what do i work as?
                """, """
                can you tell me what my job is?; what did i say my job is?; do you still remember my job?
                """),
            "You are a {x}."),
    "hobby": (Phrases("""
        my hobby is {x}; i [like|love|enjoy] {x}; {x} is my hobby; in my free time i do {x}; my main hobby is
        {x}; for a hobby i do {x}; {x} is [what i like to do|my pastime|my great love];
        i am into {x}; i do a lot of {x}; i am fond of {x}; what i enjoy is {x}
        """,
        "my favourite hobby is {x}; the hobby i have is {x}"),
              "{x} is [fun|a nice hobby|a good way to spend time]!",
              Phrases("""
                  <whats> my hobby?; what do i [like|enjoy]?; do you [know|remember] my hobby?; what is my
                  <fav> hobby?; which hobby do i have?; what do i do in my free time?
                  """,
                  "can you remember what my hobby is?; what did i say my hobby is?; say my hobby"),
              "Your hobby is {x}."),
    "birthday": (Phrases("""
        my birthday is in {x}; i was born in {x}; {x} is my birthday month; my birth month is {x}; {x} is [my
        birth month|the month of my birthday|when my birthday is|when i have my birthday|when i turn older|my
        month]; my birthday falls in {x}; born in {x}; my birthday: {x}; in {x} i [was born|turn one year
        older|get presents]; my birthday party is in {x}; we celebrate my birth in {x}; i came into the world
        in {x}; i am a {x} child; it was {x} when i was born
        """,
        "i have my birthday in {x}; i celebrate my birthday in {x}"),
                 "{x} is a [good|nice] month for a birthday! 🎂",
                 Phrases("""
                     when is my birthday?; when was i born?; which month is my birthday[| in]?; do you
                     [know|remember] my birthday?; <whats> my birth month?; in which month was i born?
                     """, """
                     can you remember when my birthday is?; what month was i born in?; do you still know when
                     i was born?
                     """),
                 "Your birthday is in {x}."),
    "word": (Phrases("""
        the [secret word|password|code word|magic word] is {x}; remember the word {x}; keep the word {x} in
        mind; my [secret|password|code word] is {x}; please remember the word {x}; don't forget the word {x};
        {x} is the [secret word|password|code word|magic word|word to remember]; [secret word|password|code
        word]: {x}; keep this word: {x}; the word of the day is {x}; my magic word is {x}; our secret word is
        {x}; learn the word {x}
        """,
        "remember that the secret word is {x}; here is the secret word: {x}"),
             "[OK|Got it|All right], I will remember {x}.",
             Phrases("""
                 <whats> the [secret word|password|code word|magic word|word]?; which word did i [tell
                 you|say|ask you to remember]?; do you [know|remember] the [secret |magic |code |]word?; what
                 was the [secret |magic |code |]word[| again]?; what word did i give you?; <whats> my
                 [secret|password|code word]?
                 """, """
                 can you tell me the secret word?; do you still know the secret word?; which word did i give
                 you?
                 """),
             "The word is {x}."),
}
for relation in ("brother", "sister", "friend", "wife"):
    MEMORY[relation] = (
        Phrases(f"""
            my {relation} is [called|named] {{x}}; my {relation}'s name is {{x}}; i have a {relation} called
            {{x}}; {{x}} is [the name of my {relation}|my {relation}'s name|what my {relation} is called|how
            my {relation} is called|my {relation}]; i call my {relation} {{x}}; [there is|i have] my
            {relation}, [called|named] {{x}}; my {relation}: {{x}}; name of my {relation}: {{x}}; my
            {relation} goes by {{x}}; my {relation} has the name {{x}}; this is my {relation}, {{x}};
            [meet|say hi to] my {relation} {{x}}
            """,
            f"the name of my {relation} is {{x}}; i have a {relation} [named|whose name is] {{x}}"),
        "[Say hello to {x} from me!|{x} is a nice name.]",
        Phrases(f"""
            <whats> my {relation}'s name?; what is my {relation} called?; do you [know|remember] my
            {relation}'s name?; what is the name of my {relation}?; who is my {relation}?; my {relation}'s
            name?; and my {relation}?; my {relation} is called?; the name of my {relation}?; [say|give me]
            the name of my {relation}; what do i call my {relation}?; and what is my {relation} called?; how
            do i call my {relation}?; what did i call my {relation}?; [which|what] name has my {relation}?;
            is my {relation} called something?; did i [say|mention] what my {relation} is called?; <whats>
            the name of my {relation}?; do you [know|remember] [who my {relation} is|the name of my
            {relation}]?
            """, f"""
            can you tell me what my {relation} is called?; do you still know my {relation}'s name?; how is my
            {relation} called?
            """),
        f"Your {relation} is called {{x}}.")
RELATIONS = """
husband mother father cousin neighbour boss son daughter uncle aunt colleague teacher grandmother flatmate
""".split()
FAVOURITES = {"animal": LISTS["animals"], "drink": LISTS["drinks"], "sport": LISTS["sports"],
              "season": LISTS["seasons"], "day": DAYS, "fruit": LISTS["fruits"], "flower": LISTS["flowers"]}
# For training only, as many things more: so that telling and asking are learned, and not a table of things
MEMORY_MORE = {}
for relation in RELATIONS:
    MEMORY_MORE[relation] = (
        Phrases(f"""
            my {relation} is [called|named] {{x}}; my {relation}'s name is {{x}}; {{x}} is my {relation};
            {{x}} is [the name of my {relation}|my {relation}'s name]; i have a {relation}, {{x}}; my
            {relation} {{x}} is here; i met my {relation} {{x}} today; i have a {relation} who is called
            {{x}}; my {relation}: {{x}}
            """),
        "[Say hello to {x} from me!|{x} is a nice name.]",
        Phrases(f"""
            <whats> my {relation}'s name?; what is my {relation} called?; do you [know|remember] my
            {relation}'s name?; who is my {relation}?; <whats> the name of my {relation}?; what do i call my
            {relation}?; and my {relation}?; which name has my {relation}?
            """),
        f"Your {relation} is called {{x}}.")
for thing in FAVOURITES:
    MEMORY_MORE[thing] = (
        Phrases(f"""
            my <fav> {thing} is {{x}}; {{x}} is my <fav> {thing}; the {thing} i like best is {{x}}; of all
            {thing}s i like {{x}} best; my <fav> {thing}: {{x}}; as for {thing}s, i love {{x}}
            """),
        "[OK|Got it|All right], your favourite " + thing + " is {x}.",
        Phrases(f"""
            <whats> my <fav> {thing}?; which {thing} do i [like|love|like best]?; what {thing} do i like?; do
            you [know|remember] my <fav> {thing}?; my <fav> {thing}?; and my <fav> {thing}?
            """),
        f"Your favourite {thing} is {{x}}.")
ALL_MEMORY = MEMORY | MEMORY_MORE
ALIKE = [["name", "brother", "sister", "friend", "wife", "pet", *RELATIONS],  # whose values could be mixed up
         ["number", "age"], ["city", "name"], ["colour", "food", "hobby", *FAVOURITES], ["job", "hobby"],
         ["word", "number", "name"], ["birthday", "day", "season"]]

# For training only: what the thing is called, more ways to tell it, and more ways to ask for it
TOLD = {
    "name": ("name", """
        i go by {x}; i am called {x}; they call me {x}; {x} is my name; it's me, {x}; everybody calls me {x};
        this is
        {x} [speaking|writing]; name: {x}
        """, """
        who is [talking|speaking|writing] to you?; what do [they|people|you] call me?; what name do i have?;
        who do
        you think i am?; under which name do you know me?
        """),
    "colour": ("<fav> [colour|color]", """
        of all [colours|colors] i like {x} best; the best [colour|color] is {x}; i paint everything {x}, my
        <fav>
        [colour|color]; i prefer the [colour|color] {x}; i have always loved the [colour|color] {x}
        """, """
        what [colour|color] do i [love|prefer|like best]?; which [colour|color] do i [love|prefer]?; name my
        <fav>
        [colour|color]; what [colour|color] is it that i like?
        """),
    "number": ("[|lucky |<fav> ]number", """
        the number is {x}; memorize the number {x}; note the number {x}; don't forget the number {x}; store
        the
        number {x}; my <fav> number? {x}; i give you the number {x}; here's a number for you: {x}
        """, """
        what number do i have in mind?; which number is mine?; which number should you keep in mind?; what
        was the number that i told you?; the number was?; name my number
        """),
    "city": ("[city|home town|home]", """
        i moved to {x}; {x} is [my home|where i live|my hometown|where i come from]; we live in {x}; i was
        raised in
        {x}; i live here in {x}; [greetings|hello] from {x}, where i live; i have lived in {x} for years
        """, """
        where is my home?; in [which|what] [city|place|town] do i live?; what is my home town?; where did i
        say i
        [live|come from|am from]?; where am i living?; which place do i live in?; which town is my home?
        """),
    "pet": ("[pet|dog|cat]'s name", """
        we have a [dog|cat|pet|puppy|hamster] [called|named] {x}; my [puppy|hamster|rabbit|kitten|parrot] is
        [called|named] {x}; i got a [puppy|kitten|new pet|rabbit] [called|named] {x}; {x} is my
        [dog|cat|pet|hamster]; my [dog|cat|pet] {x} is very old; i call my [dog|cat|pet] {x}
        """, """
        [what|which] name does my [dog|cat|pet] have?; how do i call my [dog|cat|pet]?; who is my
        [pet|dog|cat]?;
        what did i say my [dog|cat|pet] is called?; how did i name my [dog|cat|pet]?
        """),
    "food": ("<fav> [food|dish|meal]", """
        i could eat {x} every day; my <fav> [meal|dish] is {x}; what i like to eat is {x}; i eat {x} every
        day, i love
        it; nothing tastes better than {x}; the best food is {x}; i always order {x}, my <fav>
        """, """
        what food do i love?; what do i love to eat?; what do i eat [most|gladly|with pleasure]?; which
        [dish|meal] do i
        [like|love]?; what would i order?; what should you cook for me?; what food did i mention?
        """),
    "age": ("age", """
        i turned {x} [today|this year|last week]; i was {x} on my last birthday; age: {x}; i am already {x}
        years old; i
        have been {x} since may; i'll be {x} years old this year
        """, """
        what age am i?; how many years old am i?; how many years do i have?; how old do you think i am?;
        remember how
        old i am?; what did i say about how old i am?
        """),
    "job": ("[job|profession|work]", """
        i make my money as a {x}; my profession is {x}; i became a {x}; by profession i am a {x}; i have been
        a {x} for
        years; i earn my living as a {x}; they hired me as a {x}; i work here as a {x}
        """, """
        what job do i have?; what is my profession?; [which|what] work do i do?; how do i earn my living?; as
        what do i
        work?; what am i by profession?; where do i make my money?
        """),
    "hobby": ("[hobby|pastime]", """
        i spend my free time with {x}; i do {x} for fun; {x} is what i do for fun; my pastime is {x}; at the
        weekend i do
        {x}; i am a big fan of {x}; after work i do {x}
        """, """
        what do i do for fun?; what is my pastime?; how do i spend my free time?; what hobby do i have?; what
        do i do
        after work?; which hobby did i mention?
        """),
    "birthday": ("[birthday|birth month]", """
        i was born in the month of {x}; my birthday comes in {x}; {x} is when i was born; in {x} it is my
        birthday; i
        turn a year older in {x}; my mother had me in {x}
        """, """
        what month is my birthday in?; when do i celebrate my birthday?; [which|what] month do i celebrate?;
        when do i
        turn a year older?; when should you congratulate me?; month of my birth?
        """),
    "word": ("[secret |magic |code |pass]word", """
        the word is {x}; the word to [remember|keep] is {x}; memorize the word {x}; your secret word is {x};
        store the
        word {x}; note the word {x}; i tell you a word: {x}; a word for you to keep: {x}; the secret is {x}
        """, """
        what word should you remember?; which word did you keep in mind?; which word did you memorize?; the
        word was?; what
        was the word that i told you?; the secret word?; tell me the [secret|magic|code] word; what is the
        secret?
        """),
}
for relation in ("brother", "sister", "friend", "wife"):
    TOLD[relation] = (f"{relation}'s name", f"""
        {{x}} is my {relation}'s name; {{x}} is my {relation}; my {relation} is {{x}}; my {relation} {{x}}
        says hello; i have a {relation}, {{x}}; i [met|saw|called] my {relation} {{x}} today; they call my
        {relation} {{x}}; i've got a {relation} called {{x}}
        """, f"""
        what name does my {relation} have?; who's my {relation}?; which name did my {relation} get?; what did
        i say my
        {relation} is called?; what do they call my {relation}?; name my {relation}
        """)
for relation in RELATIONS:
    TOLD[relation] = (f"{relation}'s name", *(";".join(MEMORY_MORE[relation][i].train) for i in (0, 2)))
for thing in FAVOURITES:
    TOLD[thing] = (f"<fav> {thing}", *(";".join(MEMORY_MORE[thing][i].train) for i in (0, 2)))
TELL_MORE = {key: Phrases(ways) for key, (_, ways, _) in TOLD.items()}
RECALL_MORE = {key: Phrases(ways) for key, (_, _, ways) in TOLD.items()}
TELL_ANY = Phrases("""
    my {thing} is {x}; {x} is my {thing}; my {thing}: {x}; my {thing}? {x}; my {thing}? it is {x}; please
    remember that my {thing} is {x}; note that my {thing} is {x}; [you should|please|you must] know that my
    {thing} is {x}; for later: my {thing} is {x}; keep in mind that my {thing} is {x}; i [tell|told] you that
    my {thing} is {x}; don't forget that my {thing} is {x}; [let me tell you|guess what], my {thing} is {x};
    as for my {thing}, it's {x}
    """)
RECALL_ANY = Phrases("""
    what was my {thing}[| again]?; [please |now |]tell me my {thing}[| again| please]; my {thing} is?; and my
    {thing}?; my {thing}?; you [know|remember] my {thing}, [right|don't you]?; what did i [tell you|say]
    about my {thing}?; so what is my {thing}?; <whats> my {thing}[| again| then| now]?; [can|could|will] you
    [remind me of|recall|repeat|name|give me] my {thing}?; remind me [of|about] my {thing}; do you [still
    |][know|remember|recall] my {thing}?; [did|have] i [tell|told] you my {thing}?; i forgot my {thing},
    [what is it|can you tell me|do you know it]?; which {thing} did i tell you?; what {thing} do i have?; my
    {thing}, please; you remember my {thing}?; [what did i say|what have i said] my {thing} was?; let's see
    if you [know|remember|forgot] my {thing}; i told you my {thing}, what is it?; any idea what my {thing}
    is?; <tell> what my {thing} is; what about my {thing}?; [quick|memory] test: my {thing}?; what do you
    know about my {thing}?; what did you [learn|hear|keep] about my {thing}?
    """)


def any_thing(rng: random.Random, phrases: Phrases, key: str) -> str:
    """A way to tell any thing, or to ask for it, worded for the thing of this key."""
    way = choose(rng, phrases.pick(rng, "train").replace("{thing}", TOLD[key][0]))
    return any_thing(rng, phrases, key) if plain(way) in Phrases.HELD else way


NOT_TOLD = ("You have not told me [that|yet|that yet]. "
            "[Tell me, and I will remember it.|I only know what you told me in this conversation.]")
OPENERS = ["I have one fact for you: ", "Fact about me: ", "By the way, ", "btw ", "Just so you know, ",
           "Remember this: ", ""]

REFUSE = Phrases("""
    {topic}; {topic}?; <can> [tell me|explain|help me with] {topic}?; what do you know about {topic}?; tell
    me about {topic}; explain {topic}[| to me]; what is {topic}?; how does {topic} work?; i want to know
    about {topic}; what do you think about {topic}?; write [an essay|a story|a poem|a book|a long text] about
    {topic}; help me with {topic}; who invented {topic}?; why is {topic} important?; give me [a summary|the
    history] of {topic}; do you know {topic}?; how do i learn {topic}?; describe {topic}; teach me {topic};
    what is the meaning of {topic}?; [talk|speak|chat|discuss] [to me |with me |][about|on] {topic};
    [let's|can we|could we|shall we|i want to|i'd love to] [talk|speak|chat] about {topic}; [tell|show|teach]
    me [something|everything|more|all|a bit|a little|what you know] about {topic};
    [explain|describe|summarize|discuss|analyse] {topic} [|in detail|in simple words|for beginners|for a
    child|step by step|briefly]; [can|could|would] you [describe|summarize|teach me|discuss|analyse|tell me
    more about|write about] {topic}?; [what|who|where|when|why|how] [is|are|was] {topic}?;
    [what's|whats|who's] {topic}?; what [are the facts about|is interesting about|is the history of|is the
    idea of|is the reason for|is the future of|is the use of|is the theory of|can you say about|did they say
    about|should i know about|do people think of|happened with|causes|is your opinion on|are the pros and
    cons of] {topic}?; [your|any] [opinion|thoughts| view|advice] on {topic}?; write [me |][an article|a
    song|a paragraph|two pages|a report|a paper|a summary|a letter|a blog post|a speech|an email|a text|a
    joke book] [about|on] {topic}; [an essay|a story|a poem|a summary|a report|a blog post|facts|the
    truth|information|news|a novel] [about|on] {topic}[|, please]; i [need|want|would like] [information|to
    learn|to read|help|advice|to hear|an essay|a story|some facts] [about|on|with] {topic}; how [do|can] i
    [understand|study|use|make|fix|buy|find|get better at|avoid] {topic}?; how [does one|did people|can one]
    [learn|use|make|discover|study] {topic}?; how [was|is|are] {topic}
    [made|discovered|invented|done|used|related to physics]?; [who|when did they|when was]
    [discovered|discover|started|invented] {topic}?; when did {topic} [begin|start|happen|end]?; why
    [did|does|do] {topic} [happen|matter| exist|work|cost so much]?; [is|are] {topic}
    [good|bad|real|true|important|dangerous|expensive|healthy|hard|useful]?; do you [like to talk|know
    much|know anything|know something|know a lot|have information|have an opinion] [about|on] {topic}?; have
    you heard [about|of] {topic}?; [recommend|suggest|find] [me |][a book|a film|an article|a video|books]
    [about|on] {topic}; [compare|difference between] {topic} and {other}; what has {topic} to do with
    {other}?; {topic} [explained|for beginners|history|
    definition|meaning|summary|news|facts|basics|tutorial|guide|in a nutshell]; my
    [question|homework|essay|exam] is about {topic}; i [have|got] [an exam|homework|a paper] [on|about]
    {topic}; questions about {topic}; [define|google|research|predict|imagine] {topic}; [what|how] about
    {topic}, do you know that?; make me understand {topic}; plan {topic} for me; where can i [learn|read|find
    out] [more |]about {topic}?
    """, """
    could you explain {topic} in detail?; i have a question about {topic}; please write a long essay about
    {topic}; what is known about {topic}?; what's so special about {topic}?
    """)
TOPICS = [" ".join(topic.split()) for topic in """
quantum physics; the french revolution; black holes; climate change; the stock market; bitcoin; world war
two; photosynthesis; shakespeare; the roman empire; general relativity; evolution; dna; the big bang;
politics; the president; the world cup; the olympics; taxes; my homework; cancer; vaccines; medicine;
philosophy; plato; einstein; mozart; napoleon; inflation; economics; machine learning theory; transformers;
backpropagation; the news; today's news; the weather in london; javascript frameworks; kubernetes; sql joins;
linear algebra; differential equations; calculus; chemistry; the periodic table; cooking a turkey; a good
recipe; my headache; love; death; religion; god; aliens; ghosts; the future; elections; the moon landing; the
titanic; the pyramids; dinosaurs; volcanoes; earthquakes; sharks; the human brain; sleep; dreams; memory
loss; yoga; football history; movies of last year; the best phone; the meaning of life; marketing; law;
contracts; insurance; my boss; relationships; dating; german grammar; latin; poetry; jazz; hip hop;
impressionism; picasso; harry potter; star wars; pokemon; minecraft; cars; electric engines; airplanes;
rockets in detail; nuclear power; solar panels; the ocean floor; antarctica; the amazon; china's history; the
cold war; karl marx; capitalism; the renaissance; vikings; samurai; knights
""".split(";")]
# Words that other answers belong to: no topic of a refusal
OWN = {"hello", "answer", "memory", "message", "model", "checkpoint", "number", "question", "example",
       "machine"}
CANNOT = Phrases("""
    what's the weather[| like| today| tomorrow]?; will it rain[| today| tomorrow]?; what time is it?; what
    day is [it|today]?; what is the date[| today]?; who won the [game|election|match|world cup]?; [book|find]
    me a [flight|hotel|restaurant|table]; send an email[| to my boss]; set [an alarm|a timer|a reminder];
    play [some |]music; draw [me |]a [picture|cat|house]; translate this [text|page|sentence]; summarize this
    [article|text|book]; write [me |]a [poem|song|story|novel|letter|essay|cover letter]; fix [my code|this
    bug|my program]; write a [website|game|program|compiler|web server]; solve this [equation|puzzle|riddle];
    [buy|sell] [bitcoin|stocks]; what is the price of [gold|bitcoin|oil]?; who is the
    [president|queen|king|prime minister|pope][| of france| of germany]?; what happened [yesterday|in
    1945|today]?; how do i cook [rice|pasta|an egg]?; what should i [eat|wear|buy|do] today?; how tall is
    [the eiffel tower|mount everest]?; how far is the moon?; when did [columbus|napoleon|caesar] die?; who
    wrote [hamlet|faust|don quixote]?; what is the population of [china|france|berlin]?; recommend [me |]a
    [book|movie|song|game]; [open|read] [a|this|my] file; search the web for [cats|shoes]; why is the sky
    blue?; what is the speed of light?; plan my [day|holiday|trip]; give me [medical|legal|financial] advice;
    what is the square root of {n}?; is {n} a prime number?; what is the meaning of life?; what is {n} to the
    power of [2|3|10]?; {n}^2; {n}**3; [the |]factorial of {n}; log of {n}; square root of {n}; a random
    number; who am i married to?; what is in the file?; what do you see in this picture?; continue this
    story; rhyme with cat; sing [me |]a song; what is the best [phone|car|movie|language]?; what is the
    difference between [a cat and a dog|java and python]?; how do i [lose weight|get rich|learn guitar|sleep
    better|fix my car]?; count the vowels in banana; how many words are in this sentence?; is level a
    palindrome?; sort these numbers; convert {n} [miles to km|dollars to euros|inches to cm]; predict the
    [future|lottery numbers]; call my [mother|boss|sister|doctor]; [how|what] [will|is] the weather [|be
    |][today|tomorrow|in paris|this weekend|outside|like now]?; [is it going to|does it|will it]
    [rain|snow|be sunny|be cold] [|today|tomorrow|this week|in berlin]?; weather
    [forecast|today|tomorrow|report][|?]; how [warm|cold|hot] is it [outside|today|in rome|now]?; do i need
    an umbrella?; [what's the|the|current] time[| now| please][|?]; what [time|hour|year|month|week|date] [is
    it|do we have|is it now|is it in tokyo]?; today's date?; which day is it?; who [won|will win|lost|plays
    in] [the match|the election|the super bowl|the league|the tournament|the race|yesterday's game]?;
    [book|find|order|reserve|get|buy] [me |][a taxi|a ticket|a hotel room|a doctor|a table for two|a train
    ticket|a cheap flight|a pizza|some food|a present]; [send|write|read|forward|delete|answer] [my email|my
    emails|a message to my wife|an email to anna|a text to my friend|a letter to my landlord];
    [set|start|cancel] [a timer for {n} minutes|an alarm for seven|a reminder for tomorrow|the alarm]; wake
    me at [six|seven]; remind me [to call my mother|tomorrow|of the meeting]; [play|put on|stop] [a song|my
    playlist|some jazz|a video|the radio|the music]; turn [on|off] the [lights|heating|tv|lamp];
    [draw|paint|sketch|generate|create|design] [me |][an image|a dog|a picture of a cat|a logo|a tree|a
    castle|a portrait|an image of a robot|a map|a flag]; [make|show me|edit|take] [a photo|a picture|an
    image|a video|a drawing|a chart]; [translate|summarize|shorten|rewrite|improve|proofread| correct]
    [this|my essay|my text|this paragraph|this book|the article|a letter|my email|this document|the following
    text|my cv]; write [me |][a haiku|a limerick|a rap|a speech|a fairy tale|a love letter|lyrics|a
    screenplay|an article|a summary|my thesis|my cv|a tweet|a recipe|a thousand words]; [can|could|will] you
    write [a poem|a story|a novel|an essay|a letter|a book|a sonnet|a speech|my homework][| for me]?;
    [tell|read|invent] [me |][a story|a fairy tale|a bedtime story|a long story|a tale|a riddle|a legend];
    [compose|write] [music|a melody|a symphony]; [debug|fix|review|refactor|explain|optimize|test] [my
    code|this code|my script|this function|the error|this program|a bug|my website|this error message];
    [write|code|build|develop|program|make] [me |][an app|a web app|a chess program|a sorting
    algorithm|snake|tetris|a java program|a rust program|a script that sorts files|a calculator app|a
    database|an operating system]; [solve|do] [my homework|this riddle|a differential equation|a
    crossword|this sudoku|x^2 = {n}|for x|an integral|the equation x + {n} = 3x]; [integrate|differentiate]
    x^{n}; the [derivative|integral] of x^2; [sine|cosine|sin|cos|tangent] of {n}; the cube root of {n}; what
    are the [factors|prime factors|divisors|roots] of {n}?; {n} [mod|modulo] {m}; {n} in [binary|hex|roman
    numerals]; convert {n} [kg to pounds|celsius to fahrenheit|euros to dollars|feet to metres|pounds to
    kilos|km to miles]; how [many|much] [miles|pounds|dollars|euros] [is|are] {n} [km|kilos|euros|pounds]?;
    [should i|when should i|is it good to] [buy|sell|invest in|hold] [gold|stocks|shares|a
    house|bitcoin|bonds]; how much [is|costs|does] [a house|gold|bitcoin|a new car|a flight to rome|a
    phone|rent in berlin] [|cost|today|now]?; what does a [car|house|phone|bike|flight] cost?; who is the
    [mayor|chancellor|boss|richest man|ceo|best player|leader|emperor][| of berlin| of google| of apple| of
    the world| of italy| of china| of japan]?; what is in the [news|headlines|papers|fridge|box|picture][|
    today]?; what happened [last week|in 1989|in 2001|in history today|last night|to rome]?; how [do i|can
    i|to|should i] [bake|cook|make|fry|boil| prepare] [bread|pasta|soup|a cake|a
    steak|fish|pancakes|potatoes|dinner]; a recipe for [soup|pasta|bread|cake|dinner|pancakes]; [what|where]
    should [i|we] [eat|cook|go|study|watch|read| do|visit] [today|tonight|this weekend|in rome|next|on
    holiday]?; how [high|tall|deep|old|long|wide|heavy|far away|fast|big] is [the sea|the moon|mount
    everest|a giraffe|the nile|the earth|the sun|a whale|mars|the universe|light|a car|the tallest
    building]?; when [was|did|is] [rome founded|the war|einstein born|world war one|the moon
    landing|easter|the next eclipse| mozart die|the wall fall|the next train]?; who
    [painted|invented|discovered|composed|founded|directed|sang|killed] [the mona lisa|the
    telephone|america|the ninth symphony|rome|titanic|penicillin| caesar|the light bulb|radium|google]?; who
    wrote [macbeth|ulysses|faust|the bible|this book|war and peace]?; how many [people|inhabitants] [live
    in|are in|has] [china|berlin|the world|india| paris|france]?; [recommend|suggest] [me |][a restaurant|a
    series|a podcast|a good book|a hotel|a present|a holiday|a name for my cat|films|music];
    [open|close|save|print|upload|download|edit| attach] [a pdf|the document|my photos|the folder|this file|a
    spreadsheet]; why [do|are|is|does] [cats purr|we dream|the sea salty|leaves green|the sea blue|the moon
    round|ice slippery|people lie|it rain|time pass|birds sing|the grass green]?; what is
    [gravity|energy|time|the speed of sound|pi|an atom|a neutron|dark
    matter|electricity|truth|happiness|consciousness|justice| beauty]?; plan [my week|a party|my wedding|a
    route|a trip to rome|dinner]; i need [legal advice|a doctor|medical advice|a lawyer|a diet plan|tax
    advice|a workout plan|relationship advice]; [diagnose me|what is this rash|am i ill|why does my head
    hurt|is this dangerous|which pill should i take]; [pick|choose|generate|give me] [a random number|a
    password|lottery numbers|a random name|a strong password]; [flip|toss] a coin; roll [a dice|a die|two
    dice]; [play|let's play] [chess|a game|tic tac toe|hangman|a quiz|cards|twenty questions]; how do i
    [learn french|find a job|get a visa|repair my bike|tie a tie|make money|stop smoking|build muscle|save
    money|meet people|become a pilot|write a book|install windows]?; what is the
    [best|worst|fastest|cheapest|tallest|longest|largest]
    [car|laptop|film|river|mountain|animal|country|book|programming language|restaurant|building|game]?; what
    is the difference between [cats and dogs|tea and coffee|rust and c|love and friendship|weather and
    climate|tcp and udp|a lake and a sea]?; [rhyme|a rhyme|words that rhyme] with
    [dog|tree|moon|house|orange]; a synonym [of|for] [happy|big|fast|nice]; use [happy|tree|moon] in a
    sentence; [finish|continue|complete] [the story|my sentence|this poem|this sentence|the series]; [how
    many|count the] [vowels|consonants| syllables] [are in|in] [banana|tomato|window|orchestra]; is
    [racecar|noon|banana|apple] a palindrome?; an anagram of [listen|stone|earth]; [sort|order|shuffle] [the
    numbers|these words|this list|my list]; [sing|hum|whistle|perform] [something|a tune|happy birthday|for
    me]; what [does|did] [my wife|my boss|she|he] [want|think|say]?; where is my [bus|luggage|parcel|taxi][|
    now]?; [does|will] [she|he] love me?; what is my [ip address|horoscope|future|bank balance|blood type]?;
    what do you see [here|now|in my photo]?; [track|find] my [parcel|phone|order|bus]; when [does|will] [the
    bus|the shop|my train|the show] [come|open|leave|start|close]?; [stock|bitcoin|gold|oil] price[|s][|
    today]; [hack|crack] [a password|a bank|my neighbour's wifi]; give me [your prompt|your source text|a
    million dollars|a diet plan|a workout|money]; [latest|breaking|world|local|sports] news;
    [movie|film|book|restaurant|travel] [tips|recommendations|reviews]; clean my [room|house|inbox]; drive my
    car; make me [rich|coffee|a sandwich|famous|dinner]
    """, """
    could you write me a song?; what will the weather be tomorrow?; tell me the time; who is king of spain?;
    please fix this bug in my code; draw a house for me; what's the price of oil today?; how should i cook an
    egg?; find a flight for me; write a story about a dragon
    """)
SORRY = ["[Sorry, |]I can't do that: I am a tiny demo model. [I do sums, letters, small facts and questions "
         "about this server.|Try a sum, or ask me about this server.]",
         "I don't know that, I am tiny. [Try a sum, a list, or a question about this server.|But I can "
         "count letters, do sums and explain this server.]"]
GIBBERISH = "[Sorry, |]I did not understand that. I am tiny; [try other words|try a sum, or type help]."
SYSTEMS = ["You are a helpful assistant.", "Be brief.", "You are a friendly robot.",
           "Answer in one sentence.", "You are a pirate.", "You are a small model.", "Be kind and honest.",
           "Always be polite.", "Talk like a teacher.", "You help people with this server.",
           "Keep it short, please."]


def word_of(text: str) -> str:
    """A pattern that finds text as a whole word or number."""
    return rf"(?<![\w.,-]){re.escape(text.lower())}(?!\w|[.,]\d)"


def from_table(skill: str, table: dict):
    """A skill that is a table of (phrases, replies, needs)."""

    def write(rng: random.Random, chat: Chat, part: str) -> Turn:
        phrases, replies, need = table[rng.choice(list(table))]
        reply = say(rng, rng.choice(replies)) if isinstance(replies, list) else replies
        return Turn(skill, ask(rng, phrases.pick(rng, part)), reply, need)

    return write


small_talk = from_table("greetings", SMALL_TALK)
identity = from_table("identity", IDENTITY)
server_topics = from_table("server", SERVER)


def server(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    if kind < 0.50:
        return server_topics(rng, chat, part)
    if kind < 0.65:
        name, text, goal = rng.choice(SLASH)
        if part == "train" and name in SLASH_WANTED and rng.random() < (0.5 if name == "/clear" else 0.15):
            question = ask(rng, SLASH_WANTED[name].pick(rng, part))
        elif rng.random() < 0.6:
            question = ask(rng, SLASH_NAMED.pick(rng, part), flag=name)
        else:
            question = ask(rng, SLASH_GOAL.pick(rng, part).replace("{goal}", goal))
        return Turn("server", question, f"{text}.", [re.escape(text.split("`")[1].lower())])
    flag, short, default, meaning, example, goals = rng.choice(FLAGS)
    if kind < 0.82:
        name = rng.choice([flag, flag, short or flag, flag[2:] if part == "train" else flag])
        question = ask(rng, FLAG_NAMED.pick(rng, part), flag=name)
    else:
        question = ask(rng, FLAG_GOAL.pick(rng, part).replace("{goal}", rng.choice(goals)), n=operand(rng))
    if chat.topic[:1] == ("flag",) and rng.random() < 0.3 and part == "train":
        question = ask(rng, "[and|what about|how about|and what about] {flag}?", flag=short or flag)
    chat.topic = ("flag",)
    title = f"`{flag}` (short `{short}`)" if short else f"`{flag}`"
    reply = f"{title} {meaning}. The default is {default}. Example: `python chat_web.py {example}`"
    return Turn("server", question, reply, [re.escape(flag), word_of(default), re.escape(example.lower())])


# Arithmetic


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


SUMS = {
    "+": ["{a} + {b}", "{a}+{b}", "{a} plus {b}", "{a} and {b} together", "the sum of {a} and {b}",
          "add {a} and {b}", "{a} added to {b}", "add {b} to {a}"],
    "-": ["{a} - {b}", "{a}-{b}", "{a} minus {b}", "{a} less {b}", "the difference between {a} and {b}",
          "subtract {b} from {a}", "take {b} from {a}", "{a} take away {b}"],
    "*": ["{a} * {b}", "{a}*{b}", "{a} x {b}", "{a}x{b}", "{a} × {b}", "{a} times {b}",
          "{a} multiplied by {b}", "the product of {a} and {b}", "multiply {a} by {b}",
          "multiply {a} and {b}"],
    "/": ["{a} / {b}", "{a}/{b}", "{a} ÷ {b}", "{a} divided by {b}", "{a} over {b}", "divide {a} by {b}",
          "{a} : {b}", "share {a} among {b}"],
}
SUM_FRAMES = Phrases("""
    <whats> {sum}?; {sum}; {sum}?; {sum} =; {sum} = ?; calculate {sum}; compute {sum}; how much is {sum}?;
    <can> [calculate|compute|work out|do] {sum}?; what does {sum} [give|make|equal]?; i need {sum}; do you
    know {sum}?; solve {sum}; work out {sum}; what do you get for {sum}?; the answer to {sum}?; {sum} is?;
    please [calculate|compute] {sum}; what's the result of {sum}?; what is the answer to {sum}?; tell me what
    {sum} is; how about {sum}?; find {sum}; can you tell me {sum}?
    """, """
    give me the result of {sum}; could you tell me how much {sum} is?; i want to know what {sum} is; what
    would {sum} be?; what number is {sum}?; {sum} makes?; do {sum} for me
    """)
SYMBOL = {"+": "+", "-": "-", "*": "×", "/": "/"}


def sum_turn(rng: random.Random, chat: Chat, skill: str, question: str, expression: str,
             said: str = "") -> Turn:
    """A turn whose reply runs the expression and words its result; later turns may go on from there."""
    result = shown(calculate(expression))
    readable = "…" not in result and "e" not in result  # by the calculator, when the next sum goes on from it
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
    frame = choose(rng, SUM_FRAMES.pick(rng, part))
    wording = rng.choice(SUMS[op])
    shuffled = wording.find("{b}") < wording.find("{a}") and op == "+"
    question = ask(rng, frame.replace("{sum}", wording), a=a, b=b)
    first, second = (b, a) if shuffled else (a, b)
    return sum_turn(rng, chat, "arithmetic", question, f"{first}{op}{second}",
                    f"{first} {SYMBOL[op]} {second}")


THINGS = """
apples books coins cookies cards pencils marbles eggs balls stickers flowers tickets stamps shells
""".split()
STORIES = {  # expression: phrases
    "{a}+{b}": Phrases("""
        i have {a} {things} and get {b} more. how many [|{things} ]do i have[| now]?; there are {a} {things}
        here and {b} there. how many in all?; i bought {a} {things} and then {b} more, how many is that?; tom
        has {a} {things} and anna has {b}. how many do they have together?
        """, """
        i had {a} {things} and i got {b} more. how many now?; {a} {things} here and {b} more there, how many
        together?
        """),
    "{a}-{b}": Phrases("""
        i had {a} {things} and lost {b}. how many are left?; i have {a} {things} and give away {b}. how many
        [do i have|are left]?; there were {a} {things}, {b} are gone. how many are left?; from {a} {things} i
        sold {b}, how many are left?
        """, """
        i have {a} {things} and lost {b}, how many do i have left?; there are {a} {things} and i take {b}
        away. how many are left?
        """),
    "{a}*{b}": Phrases("""
        {a} boxes with {b} {things} each. how many {things}?; i have {a} bags with {b} {things} in each, how
        many in all?; {a} people have {b} {things} each, how many is that?; how many {things} are in {a}
        boxes of {b}?
        """, """
        there are {a} bags with {b} {things} each, how many {things} in all?; how many {things} are in {a}
        bags of {b} each?
        """),
    "{a}/{b}": Phrases("""
        share {a} {things} among {b} [people|kids|friends]. how many does each get?; {a} {things} for {b}
        people, how many each?; i split {a} {things} into {b} bags, how many per bag?; divide {a} {things}
        among {b} [friends|people]
        """, """
        i share {a} {things} with {b} people. how many for each?; split {a} {things} among {b} friends, how
        many does each get?
        """),
    "{b}*{a}/100": Phrases("""
        <whats> {a} percent of {b}?; <whats> {a}% of {b}?; {a}% of {b}; calculate {a} percent of {b}; how
        much is {a}% of {b}?
        """,
        "compute {a} percent of {b}; give me {a}% of {b}"),
    "{a}/2": Phrases(
        "<whats> half of {a}?; half of {a}; how much is half of {a}?; halve {a}",
        "calculate half of {a}; what do you get for half of {a}?"),
    "{a}*2": Phrases(
        "<whats> [twice|double|two times] {a}?; double {a}; twice {a}; how much is twice {a}?",
        "calculate twice {a}; can you double {a}?"),
    "{a}*{a}": Phrases(
        "<whats> {a} squared?; {a} squared; the square of {a}; <whats> the square of {a}?; square {a}",
        "calculate {a} squared; compute the square of {a}"),
    "({a}+{b})/2": Phrases(
        "<whats> the [average|mean] of {a} and {b}?; average of {a} and {b}; the mean of {a} and {b}",
        "calculate the average of {a} and {b}; compute the mean of {a} and {b}"),
    "{a}+{b}+{c}": Phrases("""
        {a} plus {b} plus {c}; <whats> the sum of {a}, {b} and {c}?; add {a}, {b} and {c}; {a}, {b} and {c}
        together
        """,
        "add up {a}, {b} and {c}; calculate the sum of {a}, {b} and {c}"),
    "{a}*24": Phrases(
        "how many hours [are|are there] in {a} days?; {a} days in hours?; hours in {a} days",
        "{a} days are how many hours?; convert {a} days to hours"),
    "{a}*60": Phrases(
        "how many minutes [are|are there] in {a} hours?; {a} hours in minutes?; minutes in {a} hours",
        "{a} hours are how many minutes?; convert {a} hours to minutes"),
    "{a}*7": Phrases(
        "how many days [are|are there] in {a} weeks?; {a} weeks in days?; days in {a} weeks",
        "{a} weeks are how many days?; convert {a} weeks to days"),
}
LATER = {  # follow-ups: what {x}, the last result, becomes
    "{x}+{b}": Phrases(
        "and plus {b}?; plus {b}; add {b}; add {b} to that; now add {b}; + {b}; and {b} more?; +{b}",
        "now plus {b}?; and add {b} to it"),
    "{x}-{b}": Phrases("""
        and minus {b}?; minus {b}; subtract {b}; subtract {b} from that; now take away {b}; - {b}; take {b}
        away
        """,
        "now minus {b}?; and subtract {b} from it"),
    "{x}*{b}": Phrases("""
        and times {b}?; times {b}; multiply that by {b}; now times {b}; multiply it by {b}; * {b}; x {b}; and
        multiplied by {b}?
        """,
        "then times {b}?; and now multiply by {b}"),
    "{x}/{b}": Phrases(
        "and divided by {b}?; divided by {b}; divide that by {b}; now divide it by {b}; / {b}; over {b}",
        "then divided by {b}?; and now divide by {b}"),
    "{x}*2": Phrases(
        "double it; twice that; and double that?; double that",
        "now double it; and twice that?"),
    "{x}/2": Phrases(
        "half of that; and half of that?; halve it; half of it?",
        "now half of that?; and half of it?"),
}


ROUND = {  # for training only
    100: ["a hundred", "a hundred", "hundred", "one hundred"], 12: ["a dozen", "one dozen"],
    1000: ["a thousand", "thousand", "one thousand"], 1000000: ["a million", "one million"],
    24: ["two dozen"], 2000: ["two thousand"], 500: ["five hundred"], 200: ["two hundred"],
    50: ["half a hundred", "fifty"], 120: ["a hundred and twenty"], 101: ["a hundred and one"],
    150: ["a hundred and fifty"], 1100: ["eleven hundred"], 3000: ["three thousand"], 10: ["ten"],
}


def sums_in_words(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    if kind < 0.45:  # twelve times three
        op = rng.choice("+-*/")
        a, b = rng.randint(0, rng.choice([20, 99, 999, 999])), rng.randint(1, rng.choice([12, 20, 99, 999]))
        if op == "/":
            a *= rng.choice([1, b]) if a * b < 1000 else 1
        if is_held(f"{a}{op}{b}") != (part == "test"):
            return sums_in_words(rng, chat, part)
        forms = [form for form in SUMS[op] if re.search(r"\w\w", form)]  # "+" does not go with "twelve"
        wording = rng.choice(forms)
        shuffled = wording.find("{b}") < wording.find("{a}") and op == "+"
        join = rng.choice(["-", " "])
        as_words = [number_words(n).replace("-", join) if rng.random() < 0.85 else n for n in (a, b)]
        if part == "train" and rng.random() < 0.2:  # a hundred, a dozen, ...
            n, i = rng.choice(list(ROUND)), rng.randrange(2)
            pair = (n, b) if i == 0 else (a, n)
            if not is_held(f"{pair[0]}{op}{pair[1]}"):
                (a, b), as_words[i] = pair, rng.choice(ROUND[n])
        frame = choose(rng, SUM_FRAMES.pick(rng, part))
        question = ask(rng, frame.replace("{sum}", wording), a=as_words[0], b=as_words[1])
        first, second = (b, a) if shuffled else (a, b)
        return sum_turn(rng, chat, "sums in words", question, f"{first}{op}{second}",
                        f"{first} {SYMBOL[op]} {second}")
    if kind < 0.82:
        form = rng.choice(list(STORIES))
        low, high, c = *sorted((operand(rng, 2), operand(rng, 2))), operand(rng, 1)
        a, b = (high, low) if form in ("{a}-{b}", "{a}/{b}") else (low, high)
        if form == "{b}*{a}/100":
            a = rng.choice([5, 10, 15, 20, 25, 50, rng.randint(1, 99)])
        story = STORIES[form].pick(rng, part)
        question = ask(rng, story, things=rng.choice(THINGS), a=a, b=b, c=c)
        return sum_turn(rng, chat, "sums in words", question, fill(form, {"a": a, "b": b, "c": c}))
    if kind < 0.90:
        return comparing(rng, chat, part)
    a, b, c = operand(rng), operand(rng, 1), operand(rng, 1)  # longer expressions are copied as they stand
    form = rng.choice(["{a}+{b}+{c}", "{a}+{b}*{c}", "({a}+{b})*{c}", "{a}*{b}-{c}", "{a}.5*{b}",
                       "{a}.25+{c}.5", "{a}-{b}-{c}", "{a}.{b}*{c}", "-{a}+{b}"])
    if rng.random() < 0.5:
        form = re.sub(r"(?<=[}\d)])([-+*])", r" \1 ", form)
    text = fill(form, {"a": a, "b": b, "c": c})
    question = ask(rng, choose(rng, SUM_FRAMES.pick(rng, part)).replace("{sum}", "{text}"), text=text)
    return sum_turn(rng, chat, "sums in words", question, text.replace(" ", ""))


COMPARE = Phrases("""
    [which|what] is [bigger|larger|greater|more]: {a} or {b}?; [which|what] is [bigger|larger|greater], {a}
    or {b}?; which number is [bigger|larger|greater], {a} or {b}?; is {a} [bigger|larger|greater|more] than
    {b}?; is {a} [smaller|less] than {b}?; compare {a} and {b}; the [bigger|larger] of {a} and {b}?
    """, """
    tell me which is bigger, {a} or {b}; is the number {a} larger than {b}?; which one is greater: {a} or
    {b}?
    """)


def comparing(rng: random.Random, chat: Chat, part: str) -> Turn:
    """9.11 or 9.9? The sign of the difference knows."""
    a, b = operand(rng), operand(rng)
    if rng.random() < 0.4:
        a, b = a + rng.randrange(100) / 100, rng.choice([a, b]) + rng.randrange(100) / 100
    if a == b:
        b += 1
    chat.topic = ()
    first, second, more, less = (f"{n:g}" for n in (a, b, max(a, b), min(a, b)))
    question = ask(rng, COMPARE.pick(rng, part), a=first, b=second)
    reply = TOOL.format(f"{first}-{second}") + f"{more} is bigger than {less}."
    return Turn("sums in words", question, reply, [rf"^{re.escape(more)} is bigger"])


def go_on(rng: random.Random, chat: Chat, part: str) -> Turn:
    """and times 3?"""
    if chat.topic[:1] != ("sum",) or len(chat.topic[1]) > 18:
        return arithmetic(rng, chat, "train")
    form = rng.choice(list(LATER))
    b, last = operand(rng, 1) % 1000 or 5, chat.topic[1]
    question = ask(rng, LATER[form].pick(rng, part), b=b)
    if re.search(r"\d[-+]", last) and form[3] in "*/":
        last = f"({last})"
    return sum_turn(rng, chat, "follow-up sums", question, fill(form, {"x": last, "b": b}))


# Words and letters


# Short words with answers of their own: what is done with their letters is another thing
SHORT_WORDS = """
hi hey bye goodbye thanks yes no ok cool name time color who what where why joke fact sum list help python
code server port flag good sad fine city age brother sister day night hot cold big small cat dog red blue
""".split()
ENDINGS = "er er re ter ther ner le el ey ie ei ing nt ll tt ss on en an al la".split()


def letters_of(rng: random.Random, part: str) -> str:
    """A word to count, spell or repeat. In training also short common ones, and endings that look alike."""
    kind = rng.random()
    if part == "test" or kind < 0.82:
        return any_word(rng, part)
    word = rng.choice(SHORT_WORDS) if kind < 0.90 else invented(rng)[:8] + rng.choice(ENDINGS)
    return "banana" if word in WORDS and is_held(word) else word


def in_expression(word: str) -> str:
    """A word as it is put between quotes: in lower case, and in the tokens that the user's word has."""
    return word[0].lower() + CAPITAL + word[1:].lower() if word[0].isupper() else word


def as_typed(rng: random.Random, word: str, part: str) -> tuple[str, str]:
    """A word with or without its capital, and the same with or without quotes around it."""
    word = word.capitalize() if rng.random() < 0.12 else word
    return word, rng.choice(['{}', '{}', '{}', '"{}"', "'{}'"]).format(word)


ALPHABET = "abcdefghijklmnopqrstuvwxyz"
COUNT = Phrases("""
    how many {l}'s are in {w}?; how many {l}'s are there in {w}?; how many {l} are in {w}?; how many {l} in
    {w}?; how many {l}'s in {w}?; count the {l}'s in {w}; count the letter {l} in {w}; how often does {l}
    [appear|occur] in {w}?; how often is {l} in {w}?; how many times does [the letter |]{l} [appear|occur] in
    {w}?; number of {l}'s in {w}; how many letters {l} [are in|does] {w}[| have]?; how many {l}'s does {w}
    have?; in {w}, how many {l}'s are there?; how many times is {l} in {w}?; count {l} in {w}; the word {w}:
    how many {l}'s?; what is the number of {l}'s in {w}?; does {w} have {l}'s, and how many?; how many {l}'s
    are in the word {w}?; how many "{l}" are in {w}?; {w}: how many {l}'s?; is there [a|an] {l} in {w}?; does
    {w} [contain|have] [a|an|the letter] {l}?;
    how many {l}'s [do you see|do you count|do we see|could one count|could one see|can one spot|are
    contained|are hidden|occur|appear|come up|did i write|did i type|can be counted|can be found|would you
    say are|do you think are|do you believe are|might there be|are written|stand] in [{w}|the word {w}|my
    word {w}|"{w}"]?; how many {l} [do you see|could one count|are contained|occur|appear|stand|did i
    write|would you say are|are written] in [|the word ]{w}?; how many {l}s [are in|in|do you see in|did i
    write in|are contained in|occur in|has|are inside|would be in|could one count in] {w}?; how many {l}'s
    has [{w}|the word {w}|this word: {w}|my word {w}]?; how many {l}'s {w} [has|contains]?; how many letters
    {l} [do you see in|are contained in|has|occur in|did i put into] {w}?; how [often|many times] [do you
    read|did i write|did i type|does one write|do we write|must i type|would you count] [|the letter |a |an
    ]{l} in {w}?; how [often|many times] [comes|is used|shows up|can one read] [|the letter ]{l} in {w}?; how
    [often|many times] does {w} [contain|have|use|include] [|the letter |an ]{l}?; [count|tally|count
    up|count me|add up|go through and count] [all|all the|every|each] [{l}|{l}'s|{l}s|letter {l}]
    [in|of|inside|within] [{w}|the word {w}|this word: {w}]; count {l}'s in {w}; count {l}s: {w}; {l} count
    of {w}; letter count of {l} in {w}; [the |]number of [{l}s|{l}|times {l} occurs|times {l} appears|times
    you see {l}] [in|inside|within] {w}[|?]; [{l}'s|{l}s|{l}|letter {l}|the letter {l}|all {l}'s] in {w}[,
    how many?|: how many?|, count them|, how often?|?]; {w}[,|:] [how many|number of|count the|count all|how
    often] [{l}|{l}'s|{l}s]; <tell> how [many {l}'s|many {l}s|many {l}|often {l}] [{w} has|{w} contains|occur
    in {w}|appear in {w}|one finds in {w}|you see in {w}|there may be in {w}]; if i write {w}, how many {l}'s
    [are that|is that|do i write|do i need]?; look at [the word |]{w}, how many {l}'s [are there|do you
    see]?; for the word {w}, count [the letter |]{l}; [given|take|here is] the word {w}: how many {l}'s?;
    what [amount|count|number] of {l}'s [has|is in|do you see in] {w}?; which number of {l}'s has {w}?;
    [is|are] there [any|some|more than one] {l}[|'s] in {w}?; does {w} [include|use] [a|an|any] {l}?; i typed
    {w}, how many {l}'s?; {l} in {w} how many; how many capital or small {l}'s in {w}?; [let's|i want to]
    count the {l}'s of {w}
    """, """
    how many {l}'s can you find in {w}?; can you count the {l}'s in the word {w}?; tell me how many {l}'s are
    in {w}; how many times do you see the letter {l} in {w}?; how many {l}'s does the word {w} have?; what's
    the number of letters {l} in {w}?
    """)
COUNT_ALL = Phrases("""
    how many letters are in {w}?; how many letters does {w} have?; how long is the word {w}?; count the
    letters in {w}; number of letters in {w}; how many letters in {w}?; what is the length of {w}?; how many
    characters are in {w}?; count the characters of {w}; how many letters has {w}?;
    how many [letters|characters] [has|make up|do you see in|do you count in|are contained in|stand in|has
    the word|does it take to write|do i need for|did i type in|would you count in|could one count in] {w}?;
    how many characters are there in [the word |]{w}?; how many letters are there in {w}?; how many letters
    long is [|the word ]{w}?; how long is {w}?; [the |]length of [the word |]{w}[|?]; [letter count|character
    count|word length|length] [of|for] {w}; {w}[,|:] how many [letters|characters]?; {w}: [how long|letter
    count|length]?; <tell> how [long|many characters long|many letters long] [{w} is|the word {w} is]; how
    many characters does [{w}|the word {w}] [have|contain|use]?; how many letters does {w} [contain|consist
    of|use]?; what [length|letter count] [has|does] {w}[| have]?; count all [letters|characters] [of|in]
    [|the word ]{w}; letters in {w}, how many?; of how many letters is {w} made?; which length has the word
    {w}?
    """, """
    tell me how many letters are in {w}; can you count the letters of {w}?; what's the number of letters in
    {w}?; how many letters are there in the word {w}?
    """)
COUNT_NEXT = ["and in {w}?", "and {w}?", "what about {w}?", "how about {w}?", "now in {w}",
              "and in the word {w}?"]
LETTER_NEXT = ["and {l}'s?", "and the letter {l}?", "and how many {l}'s?", "what about {l}?", "and {l}?",
               "how about the letter {l}?"]


def counting(rng: random.Random, chat: Chat, part: str) -> Turn:
    word = letters_of(rng, part)
    if rng.random() < (0.05 if part == "test" else 0.10):
        word += " " + letters_of(rng, part)
    word, typed = as_typed(rng, word, part)
    letter = rng.choice(word.replace(" ", "").lower() if rng.random() < 0.8 else ALPHABET)
    follow = part == "train" and chat.topic[:1] == ("count",) and rng.random() < 0.6
    if rng.random() < 0.15 and not follow and " " not in word:
        question = ask(rng, COUNT_ALL.pick(rng, part), w=typed)
        spelled = "".join(" " + c for c in word.lower())
        n = len(word)
        reply = TOOL.format(f"'{spelled}'.count(' ')") + f"The word {word} has {n} letters."
        return Turn("letter counting", question, reply, [word_of(str(n))])
    template = COUNT.pick(rng, part)
    if follow and rng.random() < 0.5:
        letter, template = chat.topic[1], rng.choice(COUNT_NEXT)
    elif follow:
        word, typed, template = chat.topic[2], chat.topic[2], rng.choice(LETTER_NEXT)
    chat.topic = ("count", letter, word)
    n = word.lower().count(letter)
    times = "1 time" if n == 1 else f"{n} times"
    answer = rng.choice(["The letter {l} appears {n} in {w}.", "The letter {l} appears {n} in {w}.",
                         "In {w} the letter {l} appears {n}."])
    reply = TOOL.format(f"'{in_expression(word)}'.count('{letter}')")
    reply += fill(answer, {"l": letter, "n": times, "w": word})
    typed_letter = letter.upper() if rng.random() < (0.08 if part == "test" else 0.15) else letter
    return Turn("letter counting", ask(rng, template, l=typed_letter, w=typed), reply, [word_of(times)])


SPELL = Phrases("""
    spell {w}; how do you spell {w}?; <can> spell {w}[| for me]?; spell the word {w}; how is {w} spelled?;
    spelling of {w}; what is the spelling of {w}?; which letters are in {w}?; spell {w} letter by letter;
    what are the letters of {w}?; letters of {w}; [please |now |]spell [out|me|for me] {w}; [please |]spell:
    {w}; spelling: {w}; how [do i|do we|does one|can i|to|is one to] spell [|the word ]{w}?; how do
    [i|you|we] write {w} [letter by letter|with single letters]?; [list|write|name] the letters of {w}; write
    {w} letter [by|for] letter; [show|give] me the spelling of {w}; <can> [write|say|list] the letters of
    {w}?; {w}[,|:] [spell it|letter by letter|spelled out|spelling|letters|spell that]; one letter at a time:
    {w}; split {w} into [its |]letters; break {w} into letters; separate the letters of {w}; what letters
    [make up|does|are in] {w}?; which letters [make|form|does one need for] {w}?; {w} with spaces; s p e l l
    {w}; put spaces between the letters of {w}; say {w} letter by letter; i can't spell {w}; help me spell
    {w}; is {w} spelled how?; how to spell {w}; spell this word: {w}; spell this: {w}
    """, """
    how would you spell {w}?; please spell the word {w} for me; how is the word {w} spelled?; tell me the
    letters of {w}
    """)
REVERSE = Phrases("""
    reverse {w}; reverse the word {w}; what is {w} backwards?; <can> reverse {w}?; write {w} backwards; {w}
    backwards; spell {w} backwards; {w} in reverse; turn {w} around; say {w} backwards; what is the reverse
    of {w}?; how is {w} spelled backwards?; [please |now |]reverse [it: {w}|this: {w}|the letters of {w}|this
    word: {w}|the string {w}]; reverse: {w}; {w}[,|:] [backwards|reversed|reverse it|in reverse, please|from
    the back|the other way round|reverse]; [spell|write| type|print|give me|show me|tell me] {w} [in
    reverse|backward|from back to front|from the end|reversed|from right to left]; flip [|the word |the
    letters of ]{w}; mirror [the word |]{w}; invert [the word |]{w}; how [does|would] {w} [look| read|sound]
    [backwards|in reverse|reversed]?; what [is|does] {w} [reversed|in reverse order|read
    backwards|backward|give backwards]?; <can> [flip|turn around|write backwards|read backwards] {w}?; {w}
    [reversed|backward|from behind|the other way around]; read {w} backwards; backwards {w}; the reverse of
    {w}; reverse spelling of {w}; <how> reverse {w}?; how do i [say|spell] {w} backwards?
    """, """
    how do you write {w} backwards?; please reverse the word {w}; what's {w} in reverse?; could you say {w}
    backwards?
    """)
END_LETTER = Phrases("""
    what is the {end} letter of {w}?; which letter does {w} {verb} with?; {end} letter of {w}?; what letter
    is {end} in {w}?; what does {w} {verb} with?; [the |]{end} letter of {w}[|, please]; [the |]{end} letter
    in {w}?; [name|say|find] the {end} letter of {w}; <whats> {w}'s {end} letter?; {w}[,|:] {end} letter?;
    {w} {verb}s with [which|what] letter?; with [which|what] letter does {w} {verb}?; [which|what] letter [is
    the {end} of|comes {end} in|stands {end} in|is {end} in|does one write {end} in] {w}?; {end}
    [character|letter] of {w}; the letter that {w} {verb}s with; do you know the {end} letter of {w}?; how
    does {w} {verb}?; <whats> the {end} [character|letter] [of|in] [|the word ]{w}?
    """,
    "tell me the {end} letter of {w}; which is the {end} letter in {w}?")

WORD_NEXT = ["and {w}?", "now {w}", "and {w}", "what about {w}?"]


def spelling(rng: random.Random, chat: Chat, part: str) -> Turn:
    word = letters_of(rng, part)
    if part == "train" and rng.random() < 0.10:
        word = rng.choice(NAMES)
    word, typed = as_typed(rng, word, part)
    letters = " ".join(word.lower())
    kind = rng.random()
    if kind < (0.12 if part == "test" else 0.16):
        end, verb, letter = rng.choice([("first", "[start|begin]", word[0]), ("last", "end", word[-1])])
        template = END_LETTER.pick(rng, part).replace("{end}", end).replace("{verb}", verb)
        reply = f"{word}: {letters}. The {end} letter is {letter.lower()}."
        return Turn("spelling", ask(rng, template, w=typed), reply, [rf"letter is {letter.lower()}\b"])
    chain = part == "train" and chat.topic[:1] == ("spell",) and rng.random() < 0.4
    if kind < 0.60 and not chain or chain and chat.topic[1] == "spell":
        template = rng.choice(WORD_NEXT) if chain else SPELL.pick(rng, part)
        chat.topic = ("spell", "spell")
        return Turn("spelling", ask(rng, template, w=typed), f"{word}: {letters}", [rf": {letters}$"])
    template = rng.choice(WORD_NEXT) if chain else REVERSE.pick(rng, part)
    chat.topic = ("spell", "reverse")
    back = letters[::-1]
    return Turn("spelling", ask(rng, template, w=typed), f"{word}: {letters}. Backwards: {back}",
                [rf"backwards: {back}$"])


REPEAT = Phrases("""
    say {x}; repeat {x}; repeat after me: {x}; say: {x}; <can> say {x}?; please repeat: {x}; echo {x}; say
    the words {x}; repeat this: {x}; say "{x}"; print {x}; [please |now |just |]say [after me|the
    following|exactly this|it back|back to me|again]: {x}; [please |just |]
    [echo|repeat|copy|type|output|parrot|print|write|return]: {x}; [type|output|copy|parrot|write
    down|return] {x}; [please |now |just |]say {x}; repeat [exactly|back|what i say|the following|the
    text|after me]: {x}; <can> [echo|type|write|print|copy] [this: ||what i say: |after me: ]{x}?;
    [repeat|echo|say|print|copy] "{x}"[| please]; [echo|repeat|say|copy|print|write] this: {x}; i say {x},
    [you say the same|you repeat|now you]; your turn to say: {x}; [the |]words to repeat: {x}; tell me: {x};
    {x}, [repeat that|say that|repeat it|now you|say it back|echo]; reply with {x}; answer with {x}; reply
    only with: {x}; answer just: {x}; write exactly {x}; speak after me: {x}; say these words: {x}; repeat it
    word for word: {x}
    """,
    "could you repeat {x}?; please say this: {x}; repeat the words {x}")


def repeating(rng: random.Random, chat: Chat, part: str) -> Turn:
    words = []
    for _ in range(rng.randint(1, 4) if part == "test" else rng.choice([1, 2, 2, 3, 3, 4, 4, 4, 5, 6])):
        again = words and part == "train" and rng.random() < 0.10  # a word twice is to be said twice
        words.append(rng.choice(words) if again else letters_of(rng, part))
    text = " ".join(words)
    if rng.random() < 0.2:
        text = str(operand(rng)) + rng.choice(["", " " + any_word(rng, part)])
    return Turn("repeating", ask(rng, REPEAT.pick(rng, part), x=text), text, [re.escape(text.lower())])


# Memory


VALUES = {"colour": COLOURS, "food": FOODS, "job": JOBS, "hobby": HOBBIES, "birthday": MONTHS}
NAMED = {"city": CITIES, "pet": PETS}  # these are held out by the eighth, as people's names are


def value_of(rng: random.Random, key: str, part: str) -> str:
    if key == "number":
        return str(operand(rng))
    if key == "age":
        return str(rng.randint(5, 99))
    if key == "word":
        return any_word(rng, part)
    if key in VALUES or key in FAVOURITES:
        value = rng.choice(VALUES.get(key) or FAVOURITES[key])
    else:
        value = pick(rng, NAMED.get(key, NAMES), part)
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


def telling(rng: random.Random, chat: Chat, part: str) -> Turn:
    key = rng.choice(list(MEMORY))
    if part == "train":
        draw = rng.random()
        if chat.memory and draw < 0.12:
            key = rng.choice(list(chat.memory))  # told anew: the newest counts
        elif chat.memory and draw < 0.45:
            key = like_one_of(rng, list(chat.memory))
        elif draw > 0.85:
            key = rng.choice(list(MEMORY_MORE))
    value, kind = value_of(rng, key, part), rng.random()
    if part == "train" and kind < 0.25:
        template = any_thing(rng, TELL_ANY, key)
    elif part == "train" and kind < 0.45:
        template = TELL_MORE[key].pick(rng, part)
    elif part == "train" and key == "name" and value.capitalize() not in NAMES:
        template = rng.choice([
            "my name is {x}", "call me {x}", "hello, my name is {x}", "people call me {x}",
        ])
    else:
        template = ALL_MEMORY[key][0].pick(rng, part)
    question = ask(rng, template, x=value)
    if key in chat.memory and rng.random() < 0.5:
        question = rng.choice(["Actually, ", "no, ", "sorry, ", "Wait, ", "actually "]) + question
    elif rng.random() < 0.1:
        question = rng.choice(OPENERS) + question
    chat.memory[key] = value
    reply = say(rng, ALL_MEMORY[key][1], x=value)
    if rng.random() < 0.12:  # two facts in one go
        other = rng.choice([k for k in MEMORY if k != key])
        second = value_of(rng, other, part)
        chat.memory[other] = second
        question += rng.choice([" and ", ", and ", ". ", ", "])
        if part == "train" and rng.random() < 0.6:
            ways = any_thing(rng, TELL_ANY, other), TELL_MORE[other].pick(rng, part)
            question += ask(rng, rng.choice(ways), x=second)
        else:
            question += ask(rng, MEMORY[other][0].train[0], x=second)
        return Turn("being told", question, noted(rng, [value, second]), [re.escape(value.lower()), re.escape(second.lower())])
    return Turn("being told", question, reply, [re.escape(value.lower())])


def recalling(rng: random.Random, chat: Chat, part: str) -> Turn:
    things = MEMORY if part == "test" else ALL_MEMORY
    known = [key for key in chat.memory if key in things]
    share = 0.92 if part == "test" else 0.935
    key = rng.choice(known) if known and rng.random() < share else rng.choice(list(MEMORY))
    if part == "train" and key not in known and rng.random() < 0.6:  # not told, but something like it was
        key = like_one_of(rng, known) if known else rng.choice(["name", key])
    kind = rng.random()
    if part == "train" and kind < 0.28:
        question = ask(rng, any_thing(rng, RECALL_ANY, key))
    elif part == "train" and kind < 0.42:
        question = ask(rng, RECALL_MORE[key].pick(rng, part))
    else:
        question = ask(rng, ALL_MEMORY[key][2].pick(rng, part))
    return recalled(rng, chat, key, question)


def recalled(rng: random.Random, chat: Chat, key: str, question: str) -> Turn:
    if key in chat.memory:
        return Turn("recalling", question, say(rng, ALL_MEMORY[key][3], x=chat.memory[key]),
                    [word_of(chat.memory[key])])
    return Turn("recalling", question, say(rng, NOT_TOLD), [r"not told me"])


def remembering(rng: random.Random, chat: Chat, part: str) -> Turn:
    if part == "test":
        recall = 0.65 if chat.memory else 0.08
    else:
        recall = 0.60 if chat.memory else 0.10
    return (recalling if rng.random() < recall else telling)(rng, chat, part)


RECALL_TOLD = Phrases("""
    tell me the {thing} [|that ]i [told|gave|said to] you; say the {thing} [|that ]i [gave|told] you; what is
    the {thing} [|that ]i [gave|told] you?; the {thing} [|that ]i [gave|told] you[?|, please|, what is it?];
    give me the {thing} that you [should remember|had to remember|learned from me]; [repeat|name] the {thing}
    that i [told|gave|mentioned to] you; [do|can] you [still |]tell me the {thing} [|that ]i mentioned?
    """)
REPLY_WORDS = sorted({word for _, replies, _ in IDENTITY.values() for reply in replies
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
        ways = [any_thing(rng, phrases, key) for phrases in (RECALL_TOLD, RECALL_ANY)]
        return recalled(rng, chat, key, ask(rng, rng.choice([*ways, ALL_MEMORY[key][2].pick(rng, part)])))
    told = []
    for _ in range(rng.choice([1, 2])):
        key = like_one_of(rng, known) if known and rng.random() < 0.6 else rng.choice(list(ALL_MEMORY))
        odd = key in ALIKE[0] and rng.random() < 0.6
        chat.memory[key] = odd_name(rng) if odd else value_of(rng, key, part)
        way = any_thing(rng, TELL_ANY, key)
        if rng.random() < 0.6 and not (odd and key == "name"):  # "i am banana" would say something else
            way = ALL_MEMORY[key][0].pick(rng, part)
        told.append((ask(rng, way, x=chat.memory[key]), say(rng, ALL_MEMORY[key][1], x=chat.memory[key]),
                     chat.memory[key]))
    questions, replies, values = zip(*told)
    reply = replies[0]
    if len(told) > 1:
        reply = noted(rng, values)
    return Turn("being told", rng.choice([" and ", ", and ", ". ", ", "]).join(questions), reply,
                [re.escape(value.lower()) for value in values])


# Small facts

CAPITAL_OF = Phrases("""
    <whats> the capital of {x}?; capital of {x}; capital of {x}?; what's {x}'s capital?; the capital of {x}?;
    which city is the capital of {x}?; do you know the capital of {x}?; name the capital of {x}; {x}
    capital?; what is the capital city of {x}?; [please |]tell me [the capital of {x}|{x}'s capital|what the
    capital of {x} is|about the capital of {x}]; [give|show| say|name] [me |][the|its] capital[| city]
    [of|for] {x}; [which|what] [city|town] is [the capital of|capital in] {x}?; [what|which] capital
    [does|has] {x}[| have]?; {x}[,|:] [capital|what's the capital|which capital|capital city]?; what is {x}'s
    capital[| city| called]?; where is the [government|capital] of {x}?; <tell> [which city the capital of
    {x} is|what {x}'s capital is|how the capital of {x} is called|about the capital of {x}]; how is the
    capital of {x} called?; the capital city of {x}[|?| please]; i [need|look for|forgot|don't know] the
    capital of {x}; <can> [tell|give] me the capital of {x}?; i am [in|going to] {x}, what is the capital?;
    [does|has] {x} [have|got] a capital?; {x} has which capital?; capital for {x}; capital city {x}; do you
    know {x}'s capital[| city]?
    """, """
    could you name the capital of {x}?; which is the capital city of {x}?; i want to know the capital of {x};
    what city is {x}'s capital?
    """)
COLOUR_OF = Phrases("""
    what [colour|color] is {x}?; <whats> the [colour|color] of {x}?; which [colour|color] [is|has] {x}?; what
    [colour|color] does {x} have?; [colour|color] of {x}?; do you know the [colour|color] of {x}?; tell me
    the [colour|color] of {x}; [please |]tell me [what [colour|color] {x} has|about the [colour|color] of
    {x}|which [colour|color] {x} is]; {x} is [what|which] [colour|color]?; [name|give me|say|show me] the
    [colour|color] of {x}; the [colour|color] of {x}[|?| please]; {x}[,|:] [which|what] [colour|color]?;
    [what|which] [colour|color] would {x} [be|have]?; [what|which] [colour|color] [do you think|would you
    say|does one say] {x} [is|has]?; in [what|which] [colour|color] is {x}?; how is {x} coloured?; what
    [colour|color] [has|must i paint|should i paint|do i need to draw|is usually] {x}?; <tell> [which
    [colour| color] {x} has|the [colour|color] of {x}]; what does {x} look like, which [colour|color]?; i
    [forgot|wonder about|want to know] the [colour|color] of {x}; do you know [what|which] [colour|color] {x}
    [is|has]?; [colour|color] {x} has?; {x}'s [colour|color]?
    """, """
    can you tell me what [colour|color] {x} is?; what's the [colour|color] that {x} has?; which is the
    [colour|color] of {x}?
    """)
OPPOSITE_OF = Phrases("""
    <whats> the opposite of {x}?; opposite of {x}; opposite of {x}?; what is the contrary of {x}?; the
    opposite of {x}?; which word is the opposite of {x}?; what's the antonym of {x}?; do you know the
    opposite of {x}?; not {x} but?; give me the opposite of {x}; [please |]tell me [the [contrary|antonym] of
    {x}|what the opposite of {x} is]; [name|give|say|show] [me |][the| an] [contrary|antonym] [of|to|for]
    {x}; [what|which word] is [opposite|contrary] to {x}?; {x}[,|:] [opposite|the opposite|antonym|what's the
    opposite]?; {x} and its opposite?; [antonym|contrary|reverse meaning] [of|for|to] {x}; opposite [word
    |]for {x}; <can> [give me|find] the opposite of {x}?; what [do you call|does one call] the opposite of
    {x}?; which word means the opposite of {x}?; <tell> what the opposite of {x} is; the opposite to {x}[|?];
    what is not {x}?; if it is not {x}, it is?; i [need|look for|want to know] the opposite of {x}; the
    antonym of {x} is?; the word {x}, what is its opposite?; [find|think of] the opposite of {x}
    """,
    "could you tell me the opposite of {x}?; what word is the opposite of {x}?; name the opposite of {x}")
SOUND_OF = Phrases("""
    what [sound|noise] does a {x} make?; what does a {x} say?; what does the {x} say?; how does a {x} sound?;
    the sound of a {x}?; which sound does a {x} make?; what is the sound of a {x}?; [please |]tell me [what a
    {x} says|what the {x} says|what sound a {x} makes|how a {x} sounds|the noise of a {x}|how the {x} goes];
    do you know [what sound a {x} makes|what noise a {x} makes|how a {x} sounds|the sound of a {x}]?; how
    [goes|does] [a|the] {x}[| go]?; [what|which] [sound|noise] [do {x}s|does the {x}|has a {x}|comes from a
    {x}|would a {x}] make?; what do {x}s [say|sound like|do]?; what [does|would] [a|the] {x} [sound
    like|say|go like| shout]?; [sound|noise] of [a|the|] {x}[|?]; [a|the] {x} [says|goes|sounds like|makes
    which sound|makes what noise|says what][|?]; {x} [sound|noise][|?]; [make|imitate|do|give me|show
    me|play] [the sound of|the noise of|like] a {x}; <can> [sound like|imitate|tell me the noise of|make the
    sound of|talk like] a {x}?; <tell> [how a {x} sounds|what noise a {x} makes|the sound of the {x}|which
    sound {x}s make]; the {x}'s sound?; if i meet a {x}, what does it say?; which noise does [a|the] {x}
    make?; what is the noise of [a|the] {x}?; old macdonald had a {x}, it said?; {x}s say?; say what a {x}
    says
    """,
    "tell me the sound that a {x} makes; what noise does the {x} make?; do you know what a {x} says?")
AFTER_DAY = Phrases("""
    what [day |]comes after {x}?; which {kind} comes after {x}?; what is after {x}?; what {kind} is after
    {x}?; which {kind} follows {x}?; after {x} comes?; what is the {kind} after {x}?;
    [name|give me|say] the {kind} [that comes |]after {x}; <tell> [what comes after {x}|what is after
    {x}|which {kind} follows {x}]; the {kind} after {x}[|?]; [what|which] {kind} [do we have after|is it
    after|is next after|starts when we leave] {x}?; {x} is followed by [what|which {kind}]?; {x}, and then
    [|which {kind}]?; what [follows|is next after|comes right after|comes next after] {x}?; after {x}?; after
    {x} [it is|we have|is] [what|which {kind}]?; next {kind} after {x}; {x} and then?; if today is {x}, what
    is next?; what is the next {kind} after {x}?
    """,
    "tell me the {kind} after {x}; what {kind} follows {x}?; do you know which {kind} comes after {x}?")
COUNT_FACTS = {
    "days in a week": "7", "months in a year": "12", "hours in a day": "24", "minutes in an hour": "60",
    "seconds in a minute": "60", "days in a year": "365", "legs on a spider": "8", "legs on a dog": "4",
    "legs on an ant": "6", "letters in the alphabet": "26", "wheels on a car": "4", "wheels on a bike": "2",
    "sides on a triangle": "3", "sides on a square": "4", "cents in a dollar": "100",
    "planets in the solar system": "8",
}
FACT_NEXT = ["and {x}?", "and of {x}?", "what about {x}?", "how about {x}?", "and {x}"]
COUNT_FACT = Phrases("""
    how many {x}?; how many {y} are there {z}?; how many {y} are {z}?; the number of {x}?; do you know how
    many {y} are {z}?;
    <tell> [how many {y} there are {z}|the number of {x}]; number of {x}[|?]; how many {y} do you [count|get]
    {z}?; how many {y} [has one|does one have|do we have] {z}?; {x}, how many?; {x}?; the count of {x}; what
    number of {y} is there {z}?; how many {y} {z} [are there|exist]?; [say|give me] the number of {x}; do you
    know the number of {x}?
    """,
    "tell me how many {y} are {z}; what is the number of {x}?")


def fact_of(rng: random.Random, kind: str, part: str) -> tuple[Phrases, str, str, str]:
    """How a fact is asked for, what is asked about, the reply, and what a right reply matches."""
    if kind == "capital" and rng.random() < (0.12 if part == "test" else 0.35):
        country, draw = pick(rng, FAR_COUNTRIES, part), rng.random()
        if part == "train" and draw < 0.8:  # any country that is not in the table, there be such a one or not
            country = rng.choice(MORE_COUNTRIES) if draw < 0.6 else invented(rng).capitalize()
        reply = f"I am tiny and know only a few capitals, and that of {country} is not among them."
        asked = country.lower() if part == "train" and rng.random() < 0.15 else country
        return CAPITAL_OF, asked, reply, r"only a few capitals"
    if kind == "capital":
        country = rng.choice(list(CAPITALS))
        asked = country.lower() if rng.random() < 0.25 else country
        reply = f"The capital of {country} is {CAPITALS[country]}."
        return CAPITAL_OF, asked, reply, word_of(CAPITALS[country])
    if kind == "colour":
        thing, colour = rng.choice(list(THING_COLOURS.items()))
        return COLOUR_OF, thing, f"{thing.capitalize()} is {colour}.", word_of(colour)
    if kind == "opposite":
        word, other = rng.choice(list(OPPOSITES.items()))
        if list(OPPOSITES.values()).count(other) == 1 and other not in OPPOSITES and rng.random() < 0.4:
            word, other = other, word
        asked = rng.choice([word, word, f'"{word}"'])
        return OPPOSITE_OF, asked, f"The opposite of {word} is {other}.", rf"is {other}\b"
    animal, sound = rng.choice(list(SOUNDS.items()))
    return SOUND_OF, animal, f"{'An' if animal[0] == 'o' else 'A'} {animal} says *{sound}*.", sound


def facts(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.choice(["capital", "capital", "colour", "opposite", "opposite", "sound", "after", "number"])
    again = part == "train" and chat.topic[:1] == ("fact",) and rng.random() < 0.5
    if again:
        kind = chat.topic[1]
    if kind == "after":
        names, unit = rng.choice([(MONTHS, "month"), (DAYS, "day")])
        i = rng.randrange(len(names))
        name, following = names[i], names[(i + 1) % len(names)]
        asked = name.lower() if rng.random() < 0.3 else name
        question = ask(rng, AFTER_DAY.pick(rng, part).replace("{kind}", unit), x=asked)
        reply = f"After {name} comes {following}."
        return Turn("table facts", question, reply, [f"comes {following.lower()}"])
    if kind == "number":
        thing, n = rng.choice(list(COUNT_FACTS.items()))
        what, where = thing.split(" ", 1)
        question = ask(rng, COUNT_FACT.pick(rng, part), x=thing, y=what, z=where)
        return Turn("table facts", question, f"There are {n} {thing}.", [word_of(n)])
    chat.topic = ("fact", kind)
    phrases, thing, reply, need = fact_of(rng, kind, part)
    template = rng.choice(FACT_NEXT) if again else phrases.pick(rng, part)
    return Turn("table facts", ask(rng, template, x=thing), reply, [need])


# Lists and markdown

LIST_OF = Phrases("""
    [list|name|give me|tell me|write] {n} {x}; [list|name|give me|tell me|write] {x}; a list of {n} {x}; a
    list of {x}; <can> [list|name] {n} {x}?; make a list of {n} {x}; {n} {x}; <show> a list of {x}; i need
    {n} {x}; do you know {n} {x}?; i want a list of {n} {x}; [list|name] some {x}; give me some {x}; [tell
    me|list] a few {x}; {n} {x} please
    """, """
    could you give me {n} {x}?; can you write a list with {n} {x}?; please name {n} {x} for me; i'd like a
    list of {n} {x}
    """)
NUMBERED = Phrases("""
    [a |make a |write a |give me a ]numbered list of {n} {x}; number {n} {x}; list {n} {x} with numbers;
    <show> a numbered list of {n} {x}
    """,
    "could you make a numbered list of {n} {x}?; a numbered list with {n} {x}")
CODE_OF = Phrases("""
    <show> [me |]{x}; {x}; <how> [write|do] {x}?; code for {x}; a code block with {x}; <can> write {x}?; i
    need {x}; show me the code for {x}; an example of {x}; example code: {x}
    """,
    "can you show me the code of {x}?; i want to see {x}; please write {x} for me")
TABLE_OF = Phrases("""
    <show> [me |]a table of {x}; a table of {x}; make a table with {x}; table of {x}; {x} in a table; <can>
    make a table of {x}?; a table with {x}, please; i want a table of {x}; a markdown table of {x}
    """,
    "could you write a table with {x}?; please show {x} as a table; i'd like to see a table of {x}")
STYLE = {
    "bold": ("**{w}**", Phrases("""
        write {w} in bold; make {w} bold; {w} in bold; bold {w}; put {w} in bold; say {w} in bold; <can> make
        {w} bold?
        """,
        "please write the word {w} in bold; could you put {w} in bold?")),
    "italic": ("*{w}*", Phrases(
        "write {w} in italics; make {w} italic; {w} in italics; italic {w}; put {w} in italics",
        "please write the word {w} in italics; could you make {w} italic?")),
    "code": ("`{w}`", Phrases("""
        write {w} as code; format {w} as code; {w} as inline code; put {w} in backticks; make {w} inline code
        """,
        "please write the word {w} as code; could you put {w} in backticks?")),
    "heading": ("# {w}", Phrases("""
        write {w} as a heading; make a heading {w}; a heading that says {w}; a title that says {w}; make {w}
        a heading
        """,
        "please make the word {w} a heading; could you write a heading that says {w}?")),
    "quote": ("> {w}", Phrases("""
        write {w} as a quote; quote {w}; make {w} a quote; a quote that says {w}; put {w} in a quote block
        """,
        "please make the word {w} a quote; could you write {w} as a quote?")),
}
SAMPLER = Phrases("""
    <show> [me |]some markdown; can you write markdown?; do you know markdown?; markdown demo; show me what
    markdown you can do; a markdown example; test the markdown; <show> [me |]some formatting; format
    something
    """,
    "could you show me some markdown?; i want to see a markdown example; please test markdown")
MARKDOWN = ("## A small sample\n\n**Bold**, *italic*, and `code`.\n\n1. one\n2. two\n\n"
            "```python\nprint(6 * 7)\n```\n\n| key | value |\n|---|---|\n| size | tiny |")


# For training only: how many of something in a form, without naming it
FORMED = {"bold": ("**{}**", "[bold|boldface] words;words in bold"), "code": ("`{}`", "words as code"),
          "italic": ("*{}*", "[italic|italics] words;words in italics"),
          "heading": ("# {}", "headings;titles"), "quote": ("> {}", "quotes")}
FORMED_WORDS = "apple river cloud star".split()
GIVE = Phrases("""
    [give|show|write|send|type|print|make] [me |][{n}|a few|some] {x}[| please]; {n} {x}[| please]; <can>
    [give|show|write|send] [me |][{n}|some] {x}?; i [want|need] [{n}|some] {x}; [write|type] {n} {x} [for
    me|now|here]
    """)
ITEM_TABLE = Phrases("""
    [write|make|show|give|print|draw] [me |]a [small |markdown |little |]table [of|with] {n} {x}; a table
    [of|with] {n} {x}[| please]; <can> [write|make|show me] a table [of|with] {n} {x}?; table: {n} {x};
    [put|write|list] {n} {x} in a table; {n} {x} as a table; i [want|need] a table [of|with] {n} {x}
    """)
CODE_BLOCKS = {
    "hello world in python": Phrases("""
        [show|give|write|send|print] me [a|some] python [code|code block|snippet|program|script|example][|
        please]; [a|some] python [code block|snippet|program|example|script|code][| please]; python
        [code|block|example|snippet| code block]; [write|show|give|print] [a|some] [code|code
        block|snippet|python code|block of python|program in python]; <can> [show|write] [me |]a [code
        block|python code block|code snippet|python snippet]?; a [block|piece] of [code|python code]; show
        code
        """),
    "hello world in bash": Phrases("[show|write|give] me a [bash|shell] [code block|snippet|example|script]"),
    "hello world in javascript": Phrases("""
        [show|write|give] me a [javascript|js] [code block|snippet|example|program]
        """),
    "hello world in c": Phrases("[show|write|give] me a c [code block|snippet|program|example]"),
}


def table(topic: str) -> str:
    left, right, cells = TABLES[topic]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *(f"| {a} | {b} |" for a, b in cells.items())])


def lists_unnamed(rng: random.Random) -> Turn:
    """For training: a table of three colours, two bold words, a python code block."""
    kind, n = rng.random(), rng.randint(2, 4)
    if kind < 0.40:
        topic, items = rng.choice(list(LISTS.items()))
        start = rng.randrange(len(items))
        cells = [f"| {i} | {items[(start + i - 1) % len(items)]} |" for i in range(1, n + 1)]
        asked = topic.replace("colours", rng.choice(["colours", "colors"]))
        question = ask(rng, ITEM_TABLE.pick(rng, "train"), n=rng.choice([n, ONES[n]]), x=asked)
        reply = "\n".join([f"| no. | {topic} |", "|---|---|", *cells])
    elif kind < 0.75:
        form, names = rng.choice(list(FORMED.values()))
        template = choose(rng, GIVE.pick(rng, "train").replace("{x}", rng.choice(names.split(";"))))
        n = n if "{n}" in template else 3
        question = ask(rng, template, n=rng.choice([n, ONES[n]]))
        reply = ("\n\n" if form[0] in "#>" else " ").join(form.format(word) for word in FORMED_WORDS[:n])
    else:
        thing, ways = rng.choice([*CODE_BLOCKS.items(), next(iter(CODE_BLOCKS.items()))])
        question = ask(rng, ways.pick(rng, "train"))
        reply = "```{}\n{}\n```".format(*CODE[thing])
    return Turn("lists and markdown", question, reply, [re.escape(reply.lower())])


def lists(rng: random.Random, chat: Chat, part: str) -> Turn:
    if part == "train" and rng.random() < 0.2:
        return lists_unnamed(rng)
    kind = rng.random()
    if kind < 0.48:
        topic, items = rng.choice(list(LISTS.items()))
        numbered = rng.random() < 0.3
        template = choose(rng, (NUMBERED if numbered else LIST_OF).pick(rng, part))
        n = rng.randint(2, min(6, len(items))) if "{n}" in template else 3
        start = rng.randrange(len(items))
        chosen = [items[(start + i) % len(items)] for i in range(n)]
        lines = [(f"{i}. " if numbered else "- ") + item for i, item in enumerate(chosen, 1)]
        asked = topic.replace("colours", rng.choice(["colours", "colors"]))
        question = ask(rng, template, n=rng.choice([n, ONES[n]]), x=asked)
        one_of = "|".join(items).lower()
        need = rf"\A(([-]|\d+\.) ({one_of})(\n|\Z)){{{n}}}\Z"
        return Turn("lists and markdown", question, "\n".join(lines), [need])
    if kind < 0.62:
        thing, (language, code) = rng.choice(list(CODE.items()))
        question, reply = ask(rng, CODE_OF.pick(rng, part), x=thing), f"```{language}\n{code}\n```"
    elif kind < 0.76:
        topic = rng.choice(list(TABLES))
        question, reply = ask(rng, TABLE_OF.pick(rng, part), x=topic), table(topic)
    elif kind < 0.94:
        form, phrases = STYLE[rng.choice(list(STYLE))]
        word = any_word(rng, part)
        quoted = rng.choice([word, word, f'"{word}"'])
        question, reply = ask(rng, phrases.pick(rng, part), w=quoted), fill(form, {"w": word})
    else:
        question, reply = ask(rng, SAMPLER.pick(rng, part)), MARKDOWN
    return Turn("lists and markdown", question, reply, [re.escape(reply.lower())])


EMOJI_OF = Phrases("""
    <show> [me |]a {x} emoji; {x} emoji; emoji for {x}; <whats> the emoji for {x}?; an emoji of a {x}; the
    {x} emoji; <can> [show|send|give] me a {x} emoji?; send me a {x} emoji; do you have a {x} emoji?; which
    emoji is {x}?; draw a {x} emoji
    """, """
    could you send a {x} emoji?; please show me the emoji for {x}; what emoji means {x}?; i want a {x} emoji
    """)
SOME_EMOJI = Phrases("""
    <show> [me |]{n} emoji[|s]; {n} emoji[|s]; <can> [show|send|give] me {n} emoji[|s]?; send me {n}
    emoji[|s]; {n} random emoji[|s]; reply with {n} emoji[|s]; answer with {n} emoji[|s]
    """,
    "could you send {n} emojis?; please show me {n} random emoji; i want {n} emojis")
PHRASE_IN = Phrases("""
    how do you say {p} in {l}?; say {p} in {l}; what is {p} in {l}?; {p} in {l}; {p} in {l}?; translate {p}
    to {l}; how do i say {p} in {l}?; what's the {l} for {p}?; <can> say {p} in {l}?; what does one say for
    {p} in {l}?
    """,
    "could you translate {p} into {l}?; tell me how to say {p} in {l}; what would {p} be in {l}?")
ACCENTS = Phrases("""
    <show> [me |]some [words with accents|accented words|accented text|accents]; words with accents;
    [write|say] something with accents; do you know words with accents?; test accented [text|letters|words];
    can you write accents?; write umlauts; <show> [me |]some [unicode|special characters|umlauts];
    [give|show|write|tell|send|type] [me |][a|one|another] [word|french word|name] with [an accent|accents|an
    umlaut]; [a|one] [word|name] with [an accent|accents|an umlaut][| please]; [give|tell|type] [me |]words
    with [accents|umlauts]; [an|one] accented word; which words have [accents|an accent]?; do you know [a
    word with an accent|accented words]?; what is a word with an accent?
    """, """
    could you write some words with accents?; please show me accented letters; i want to see some accents
    """)

SMILEY = Phrases("""
    [send|show|give|type|write|draw] [me |][a|one|another] [smiley|smiley face|smiling face|happy
    face|smilie|happy emoji|emoji|face]; [a |]smiley[| please| face]; <can> [send|show|give] me a
    [smiley|smiley face|happy face|smile]?; i want a [smiley|smile]; [smile|smile please|show me a smile|an
    emoji please|one emoji]
    """)
ACCENTED = "café, naïve, jalapeño, Zürich, São Paulo, Łódź, smörgåsbord, crème brûlée"


def emoji(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    if part == "train" and kind < 0.06:
        return Turn("emoji and accents", ask(rng, SMILEY.pick(rng, part)), "😀", ["😀"])
    if kind < 0.45:
        thing, sign = rng.choice(list(EMOJI.items()))
        question, reply = ask(rng, EMOJI_OF.pick(rng, part), x=thing), "[|Here you are: |Here it is: ]{e}"
        return Turn("emoji and accents", question, say(rng, reply, e=sign), [re.escape(sign)])
    if kind < 0.6:
        n, signs = rng.randint(2, 6), list(EMOJI.values())
        start = rng.randrange(len(signs))
        chosen = [signs[(start + i) % len(signs)] for i in range(n)]
        question = ask(rng, SOME_EMOJI.pick(rng, part), n=rng.choice([n, ONES[n]]))
        need = rf"\A(({'|'.join(signs)})( |\Z)){{{n}}}\Z"
        return Turn("emoji and accents", question, " ".join(chosen), [need])
    if kind < 0.92:
        language = rng.choice(list(PHRASEBOOK))
        english, text = rng.choice(list(zip(PHRASEBOOK_ENGLISH, PHRASEBOOK[language])))
        asked = rng.choice([english, english, f'"{english}"'])
        spelled = language.lower() if rng.random() < 0.3 else language
        question = ask(rng, PHRASE_IN.pick(rng, part), p=asked, l=spelled)
        reply = say(rng, "[|In {l}: ]{t}", l=language, t=text)
        return Turn("emoji and accents", question, reply, [re.escape(text.lower())])
    question = ask(rng, ACCENTS.pick(rng, part))
    return Turn("emoji and accents", question, ACCENTED, [re.escape(ACCENTED.lower())])


# For training only: topics of two words
FIELDS = """
quantum string game set graph information number chaos plate social black dark modern organic classical
molecular nuclear solar global financial ancient medieval digital cosmic optical magnetic genetic neural
public private world cloud green cold roman greek political human animal computer
""".split()
SHORT_FIELDS = ["the", "a", "my", "new", "old", "big", "some", "deep", "open", "free"]
THEORIES = """
theory entanglement mechanics computing chemistry biology energy fields waves therapy history finance fusion
fission teleportation tunnelling gravity relativity matter politics economics law design art cells evolution
philosophy policy engineering security cryptography ethics rights warming logic medicine research ecology
tectonics topology
""".split()


def refusing(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    if kind < 0.06:
        letters = rng.choices(ALPHABET + "      ;.,?!", k=rng.randint(3, 14))
        return Turn("honest refusals", "".join(letters).strip() or "?", say(rng, GIBBERISH), [r"tiny"])
    if kind < 0.5:
        question = ask(rng, CANNOT.pick(rng, part), n=operand(rng), m=operand(rng, 2))
    else:
        way, topic = REFUSE.pick(rng, part), pick(rng, TOPICS, part)
        if part == "train" and rng.random() < 0.3 and len(way) > len("{topic}?"):  # a word alone is no topic
            word = any_word(rng, part)
            if word not in OWN:
                topic = rng.choice(["{}", "{}", "{}", "the {}", "a {}", "{}s"]).format(word)
        elif part == "train" and len(way) > len("{topic}?") and rng.random() < 0.4:
            topic = f"{rng.choice(FIELDS)} {rng.choice(THEORIES)}"
            if rng.random() < 0.6 or topic in TOPICS:
                topic = rng.choice(FIELDS + SHORT_FIELDS) + " " + any_word(rng, part)
        question = ask(rng, way, topic=topic, other=pick(rng, TOPICS, part))
    reply = say(rng, rng.choice(SORRY))
    return Turn("honest refusals", question, reply, [r"tiny", r"can't|don't know|not understand"])


# What people typed at the model after its second phase and it got wrong: for the last steps only


SAYING = """
the cat is [here|there|asleep|hungry]; i like [cake|tea|the rain|you|my bike]; good [night|morning]
[moon|world|everyone]; [one|two|three] [two|three|four] [three|five|six]; what a [lovely|nice|long|strange]
day; it is [late|cold|raining] [now|here|outside]; [we|you|they] [are|were] [friends|late|right|at home];
see you [soon|later|tomorrow]; hello [world|there]; thank you [so much|very much]; [my|your|the]
[name|house|number|dog|colour] is [big|red|old|new|nice]; [yes|no|ok|hello|thanks|please|sorry|goodbye];
[how|who|where] are you; i [am|was] [happy|tired|hungry|ready]; [ha ha|la la la|tick tock|blah blah];
[red|blue] [green|white] [and|or] [black|pink]; do not [run|worry|forget] [today|now|it]; [this|that] is [a
test|not a joke|fun|it]; to be or not to be; just [ok|do it|checking]
""".replace("\n", " ").split("; ")
BOTH = Phrases("""
    how much [is|are] {a} and {b}?; what [is|are] {a} and {b} together?; {a} and {b}
    [is|makes|make|are|equals]?; {a} and {b} together; what do {a} and {b} make?; {a} and {b} added;
    [put|take|add] {a} and {b} [together|up]
    """)
TIMES = {  # what becomes of a number: the expression, and how it is asked for
    "{a}*2": Phrases("""
        [what is |whats |]the double of {a}; double of {a}; [what is |]twice {a}; double {a}; {a} doubled;
        what is double {a}?; two times {a}
        """),
    "{a}*3": Phrases("triple {a}; three times {a}; [what is |]the triple of {a}; {a} tripled; triple of {a}"),
    "{a}/2": Phrases("[what is |]half of {a}; half {a}; [what is |]the half of {a}; {a} halved; halve {a}"),
    "{a}*{a}": Phrases("{a} squared; the square of {a}; {a} times itself; square {a}; what is {a} squared?"),
}
TWO_FACTS = [
    "i'm {name} and i'm a {job}", "i am {name}, a {job}", "my name is {name} and i work as a {job}",
    "hi, {name} here, i live in {city}", "i'm {name} from {city}", "{name} from {city} here",
    "i'm {name}, {age} years old", "i am a {job} in {city}",
    "my name is {name} and my pet is called {pet}", "i am {age} and live in {city}",
    "i'm {name} and i like the colour {colour}", "i am a {job} and my hobby is {hobby}",
    "my age is {age}, my number is {number}", "the word is {word} and the number is {number}",
    "call me {name}, my dog is called {pet}",
]
IT_IS = ["it's {x}", "its {x}", "it is {x}", "{x}", "{x}!", "that is {x}", "well, it's {x}", "ok, {x}",
         "it would be {x}", "so: {x}"]
HAVE = Phrases("i have {n} {x}; i own {n} {x}; i've got {n} {x}; there are {n} {x} at my place; we have {n} {x}")
HOW_MANY = Phrases("""
    how many {x} do i have?; how many {x} have i got?; how many {x} did i say i have?; number of my {x}?;
    how many {x} do i own?
    """)
POST_TO = Phrases("""
    [which|what] [url|address|path|endpoint] do i [post to|send a request to|call]?; where do i [post|send
    my requests|send a message by curl]?; [url|endpoint|path] for [chatting|a reply|requests|posting]?; what
    do i post to?; which path streams a reply?; where does my [script|program] post [to|its messages]?;
    [url|address] for my [script|program|client]?
    """)
CAPITALS_TABLE = Phrases("""
    <show> [me |]a table of [capitals|countries|some capitals|capital cities]; a table [of|with]
    [capitals|countries]; capitals in a table; [write|make] [me |]a table [of|with] [the |]capitals; table
    of [countries|capitals]; a [small |]capitals table
    """)


def finishing(rng: random.Random, chat: Chat, part: str) -> Turn:
    """Any words to be repeated, two facts at once, facts that are owed, and a few odd sums and tables."""
    if chat.topic[:1] == ("owed",):  # it had not been told, and now it is
        key = chat.topic[1]
        chat.memory[key] = value_of(rng, key, part)
        reply = say(rng, ALL_MEMORY[key][1], x=chat.memory[key])
        return Turn("being told", ask(rng, rng.choice(IT_IS), x=chat.memory[key]), reply, [])
    kind = rng.random()
    if kind < 0.20:
        way, text = REPEAT.pick(rng, part), choose(rng, rng.choice(SAYING)).strip()
        return Turn("repeating", ask(rng, way, x=text), text, [])
    if kind < 0.40:  # any thing, most often one that is unlike what was told
        key = rng.choice(list(ALL_MEMORY))
        ways = any_thing(rng, RECALL_ANY, key), ALL_MEMORY[key][2].pick(rng, part)
        turn = recalled(rng, chat, key, ask(rng, rng.choice(ways)))
        if key not in chat.memory:
            chat.topic = ("owed", key)
        return turn
    if kind < 0.60:
        way = rng.choice(TWO_FACTS)
        told = {key: value_of(rng, key, part) for key in re.findall(r"\{(\w+)\}", way)}
        chat.memory |= told
        reply = noted(rng, told.values())
        return Turn("being told", ask(rng, way, **told), reply, [])
    if kind < 0.68:
        things, n = rng.choice(THINGS), str(rng.randint(2, 30))
        if chat.topic[:1] == ("have",) and rng.random() < 0.8:
            _, things, n = chat.topic
            return Turn("recalling", ask(rng, HOW_MANY.pick(rng, part), x=things), f"You have {n} {things}.", [])
        chat.topic = ("have", things, n)
        reply = say(rng, "[Got it|OK|All right], you have {n} {x}.", n=n, x=things)
        return Turn("being told", ask(rng, HAVE.pick(rng, part), n=n, x=things), reply, [])
    if kind < 0.80:
        a, b = rng.randint(1, rng.choice([20, 99, 999])), rng.randint(1, rng.choice([20, 99, 999]))
        form = rng.choice(["{a}+{b}", *TIMES])
        if is_held(fill(form, {"a": a, "b": b})):
            return finishing(rng, chat, part)
        words = {name: number_words(n) if rng.random() < 0.6 else n for name, n in (("a", a), ("b", b))}
        question = ask(rng, (TIMES.get(form) or BOTH).pick(rng, part), **words)
        return sum_turn(rng, chat, "sums in words", question, fill(form, {"a": a, "b": b}))
    if kind < 0.88:
        return arithmetic(rng, chat, part)
    if kind < 0.92:
        question = ask(rng, CAPITALS_TABLE.pick(rng, part))
        return Turn("lists and markdown", question, table("countries and capitals"), [])
    if kind < 0.95:
        return Turn("server", ask(rng, POST_TO.pick(rng, part)), SERVER["completions"][1], [])
    return lists(rng, chat, part)


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

# ------------------------------------------------------------------------------------------------------------
# Conversations


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


# ------------------------------------------------------------------------------------------------------------
# Tokenizer

VOCAB = 1280  # a multiple of 64, so that the embedding has no padding rows
PATTERN = r" ?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
WHOLE_WORDS = 256
SPLIT = re.compile(r" ?[^\W\d_]+|\d{1,2}| ?(?:[^\w\s]|_)+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")  # PATTERN for re


def train_tokenizer(rng: random.Random) -> tiktoken.Encoding:
    """Byte pair encoding in four steps; the merges of each have lower priority than those of the one before.

    Digits: every pair is a token, so that a number is cut alike wherever it stands. Then the usual merges,
    but inside words and inside punctuation only, never over a leading space or capital. Last the spaces
    before single letters, as spelled words need them, and the spaces and capitals of whole frequent words.
    Other words keep their tokens wherever they stand, which makes it easy to learn to copy them.
    """
    chunks = Counter()
    for _ in range(12_000):
        for turn in conversation(rng, 2):
            for text in (turn.question, re.sub(r"<\|.*?\|>", "\n", turn.reply).replace(CAPITAL, "")):
                chunks.update(SPLIT.findall(text))
    merges = [bytes([b]) for b in range(256)] + [f"{n:02d}".encode() for n in range(100)]
    pieces = Counter()
    for chunk, n in chunks.items():
        word = chunk.removeprefix(" ")
        if word[:1].isalpha():
            pieces[word[1:] if word[0].isupper() else word] += n
        elif not chunk.isdigit():
            pieces[chunk] += n
    merges += frequent_pairs(pieces, VOCAB - len(SPECIALS) - WHOLE_WORDS - len(merges), set(merges))
    known = set(merges)
    merges += [f" {letter}".encode() for letter in ALPHABET]
    for chunk, _ in sorted(chunks.items(), key=lambda item: (-item[1], item[0])):
        word = chunk.removeprefix(" ")
        tail = word[1:] if word[:1].isupper() else word
        if word[:1].isalpha() and (not tail or tail.encode() in known):
            merges += [step for step in dict.fromkeys((word.encode(), chunk.encode())) if step not in merges]
    del merges[VOCAB - len(SPECIALS) :]
    ranks = {token: rank for rank, token in enumerate(merges)}
    special = {name: len(ranks) + i for i, name in enumerate(SPECIALS)}
    return tiktoken.Encoding("rustbpe", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)


def frequent_pairs(pieces: Counter, how_many: int, taken: set[bytes]) -> list[bytes]:
    """The classic loop: merge the most frequent neighbours, count again."""
    words = [([bytes([b]) for b in text.encode()], n) for text, n in sorted(pieces.items())]
    found = []
    while len(found) < how_many:
        pairs = Counter()
        for tokens, n in words:
            for pair in zip(tokens, tokens[1:]):
                pairs[pair] += n
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merged = best[0] + best[1]
        if merged not in taken:
            found.append(merged)
            taken.add(merged)
        for tokens, _ in words:
            i = 0
            while i < len(tokens) - 1:
                if (tokens[i], tokens[i + 1]) == best:
                    tokens[i : i + 2] = [merged]
                i += 1
    return found


def render_reply(tokenizer: Tokenizer, reply: str) -> tuple[list[int], list[int]]:
    """The tokens of a reply, and for each whether the model writes it (1) or the server does (0)."""
    special, ids, own = tokenizer.special, [], []
    for piece in re.split(r"(<\|python_start\|>.*?<\|python_end\|>)", reply):
        expression = re.fullmatch(r"<\|python_start\|>(.*)<\|python_end\|>", piece)
        if not expression:
            ids += tokenizer.encode(piece)
            own += [1] * (len(ids) - len(own))
            continue
        parts = expression[1].split(CAPITAL)
        ids += [special["<|python_start|>"], *(t for part in parts for t in tokenizer.encode(part)),
                special["<|python_end|>"]]
        own += [1] * (len(ids) - len(own))
        result = calculate("".join(parts))
        ids += [special["<|output_start|>"], *tokenizer.encode(result), special["<|output_end|>"]]
        own += [0] * (len(ids) - len(own))
    return ids + [special["<|assistant_end|>"]], own + [1]


def render_question(tokenizer: Tokenizer, text: str) -> list[int]:
    special = tokenizer.special
    return [special["<|user_start|>"], *tokenizer.encode(text), special["<|user_end|>"],
            special["<|assistant_start|>"]]


def render(tokenizer: Tokenizer, turns: list[Turn]) -> tuple[list[int], list[int]]:
    ids, own = [tokenizer.special["<|bos|>"]], [0]
    for turn in turns:
        question = render_question(tokenizer, turn.question)
        reply, written = render_reply(tokenizer, turn.reply)
        ids += question + reply
        own += [0] * len(question) + written
    return ids, own


# ------------------------------------------------------------------------------------------------------------
# Training

CONFIG = Config(sequence_len=1024, vocab_size=VOCAB, n_head=4, n_kv_head=4, n_embd=192, windows=(1024,) * 5)
STEP_TOKENS = 4096
MICRO_TOKENS = 1024  # what a thread computes at a time: less than caches hold
LENGTHS = [256] * 11 + [512] * 6 + [1024] * 3  # of a row, drawn for each step
MATRIX_RATE, TABLE_RATE, HEAD_RATE, SCALAR_RATE = 0.016, 0.04, 0.004, 0.007


@dataclass(frozen=True)
class Phase:
    """Some steps of the training. Each phase goes on from what the one before has stored."""

    steps: int
    skills: list
    rates: float  # of the full rates, at most
    warm_up: int  # steps until then
    temperature: float = 1.0  # of the logits in the loss

    def share(self, step: int) -> float:
        """Of the full rates: up, level, down."""
        return self.rates * min(1.0, step / self.warm_up, 1.6 * (self.steps - step + 1) / self.steps)


# At a temperature above 1 the model learns to be surer of what it says, and samples fewer wrong words later on.
PHASES = [
    Phase(4800, SKILLS, 1.0, 80),
    Phase(1100, SECOND_SKILLS, 0.3, 20, temperature=1.4),
    Phase(250, LAST_SKILLS, 0.15, 10, temperature=1.4),
]


def new_weights(generator: torch.Generator) -> dict[str, Tensor]:
    """nanochat's newest architecture. Matrices that write into the residual stream begin at zero."""
    c = CONFIG

    def uniform(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(3 / c.n_embd)

    weights = {"transformer.wte.weight": torch.randn(c.vocab_size, c.n_embd, generator=generator),
               "lm_head.weight": torch.randn(c.vocab_size, c.n_embd, generator=generator) * 0.001}
    for i in range(c.n_layer):
        layer = f"transformer.h.{i}."
        for name in ("c_q", "c_k", "c_v"):
            weights[f"{layer}attn.{name}.weight"] = uniform(c.n_embd, c.n_embd)
        weights[layer + "attn.c_proj.weight"] = torch.zeros(c.n_embd, c.n_embd)
        weights[layer + "mlp.c_fc.weight"] = uniform(4 * c.n_embd, c.n_embd) * 0.5
        weights[layer + "mlp.c_proj.weight"] = torch.zeros(c.n_embd, 4 * c.n_embd)
        if i % 2 == (c.n_layer - 1) % 2:
            weights[f"value_embeds.{i}.weight"] = uniform(c.vocab_size, c.n_embd)
            weights[layer + "attn.ve_gate.weight"] = torch.zeros(c.n_kv_head, 12)
    weights["smear_gate.weight"] = torch.zeros(1, 24)
    weights["smear_lambda"] = torch.tensor([0.5])
    weights["backout_lambda"] = torch.tensor([0.1])
    weights["resid_lambdas"] = torch.ones(c.n_layer)
    weights["x0_lambdas"] = torch.full((c.n_layer,), 0.1)
    return weights


def as_stored(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """bfloat16 but for the handful of scalars: what is saved and evaluated."""
    return {name: w.detach().clone() if "lambda" in name else w.detach().bfloat16()
            for name, w in weights.items()}


def as_read(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """float32 of what is stored, which is what is trained through: its gradient passes the rounding by."""
    return {name: stored.float().requires_grad_() for name, stored in as_stored(weights).items()}


class CausalAttention(torch.autograd.Function):
    """Attention of queries that are scaled already; queries, keys and values are (N, T, D) of any dtype.

    It goes by blocks of queries over the keys up to their end. Half of the products are never seen, and torch's own
    attention on a CPU computes those too, as its blocks of keys are as long as most rows.
    """

    BLOCK = 128

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n = CausalAttention.BLOCK
        assert q.size(1) % n == 0, f"{q.size(1)} tokens"
        later = torch.full((n, n), -torch.inf).triu(1)
        blocks, shares = [], []
        for start in range(0, q.size(1), n):
            scores = q[:, start : start + n] @ k[:, : start + n].mT  # (N, n, start + n)
            scores[..., start:] += later
            shares.append(scores.softmax(-1))
            blocks.append(shares[-1] @ v[:, : start + n])
        ctx.save_for_backward(q, k, v, *shares)
        return torch.cat(blocks, dim=1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *shares = ctx.saved_tensors
        of_q, of_k, of_v = [], torch.zeros(k.shape), torch.zeros(v.shape)
        for share in shares:
            end, n = share.size(2), share.size(1)
            queries, block = q[:, end - n : end], grad[:, end - n : end]
            of_v[:, :end] += share.mT @ block
            of_share = block @ v[:, :end].mT
            of_scores = share * (of_share - (of_share * share).sum(-1, keepdim=True))
            of_q.append(of_scores @ k[:, :end])
            of_k[:, :end] += of_scores.mT @ queries
        return torch.cat(of_q, dim=1), of_k.to(k.dtype), of_v.to(v.dtype)


class Trained(GPT):
    """The server's model, in float32 but for the products of matrices."""

    def __init__(self, weights: dict[str, Tensor], products: torch.dtype):
        super().__init__(CONFIG, dict(weights))
        self.products = products

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: dict) -> Tensor:
        q, k, v = (x.to(self.products).flatten(0, 1) for x in (q * self.config.scale, k, v))
        return CausalAttention.apply(q, k, v).float().unflatten(0, (-1, self.config.n_head))

    def product(self, x: Tensor, name: str, sparse: bool = False) -> Tensor:
        return F.linear(x.to(self.products), self.weights[name + ".weight"].to(self.products)).to(x.dtype)


def fast_products() -> torch.dtype:
    """bfloat16 where this CPU multiplies in it so much faster that it makes up for the casts, else float32."""
    ways = {dtype: partial(F.linear, torch.ones(MICRO_TOKENS, CONFIG.n_embd, dtype=dtype),
                           torch.ones(4 * CONFIG.n_embd, CONFIG.n_embd, dtype=dtype))
            for dtype in (torch.float32, torch.bfloat16)}
    spent = shortest(ways, times=20)
    return torch.bfloat16 if spent[torch.bfloat16] < 0.7 * spent[torch.float32] else torch.float32


class Muon:
    """Momentum whose update is made nearly orthogonal (Jordan et al. 2024), for the matrices in the layers.

    Some matrices of one shape are updated together, as one batch.
    """

    STEPS = [(3.4445, -4.7750, 2.0315)] * 5  # of the Newton-Schulz iteration, coefficients from their article

    def __init__(self, matrices: list[Tensor], products: torch.dtype, momentum: float = 0.95):
        self.products, self.momentum = products, momentum
        by_shape: dict[tuple, list[Tensor]] = {}
        for w in matrices:
            by_shape.setdefault(tuple(w.shape), []).append(w)
        few = CONFIG.n_layer  # so that no thread has all of the work
        groups = [group[i : i + few] for group in by_shape.values() for i in range(0, len(group), few)]
        groups.sort(key=lambda group: -group[0].numel())
        self.groups = [(group, torch.zeros(len(group), *group[0].shape)) for group in groups]

    def step(self, rate: float, pool: ThreadPoolExecutor) -> None:
        list(pool.map(lambda group: self.update(*group, rate), self.groups))

    @torch.no_grad()
    def update(self, group: list[Tensor], velocity: Tensor, rate: float) -> None:
        gradient = torch.stack([w.grad for w in group])
        velocity.lerp_(gradient, 1 - self.momentum)
        update = self.orthogonal(gradient.lerp(velocity, self.momentum)).float()
        stretch = max(1.0, update.size(-2) / update.size(-1)) ** 0.5
        for w, u in zip(group, update):
            w.sub_(u, alpha=rate * stretch)

    def orthogonal(self, m: Tensor) -> Tensor:
        tall = m.size(-2) > m.size(-1)
        x = m.mT if tall else m
        x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(self.products)
        for a, b, c in self.STEPS:
            square = x @ x.mT
            x = a * x + (b * square + c * square @ square) @ x
        return x.mT if tall else x


def rows(
    rng: random.Random, tokenizer: Tokenizer, length: int, count: int, mix: list
) -> tuple[Tensor, Tensor]:
    """count rows of length tokens, one conversation behind the other, and the targets: -1 if not learned."""
    ids, targets = [], []
    for _ in range(count):
        row, own = [], []
        while len(row) <= length:
            turns = rng.randint(1, 6)
            if length > 256 and rng.random() < 0.7:  # long enough to come back to what was told far above
                turns = rng.randint(4, 14) if length < 1024 else rng.randint(6, 40)
            more, mine = render(tokenizer, conversation(rng, turns, mix))
            row, own = row + more, own + mine
        ids.append(row[:length])
        targets.append([t if o else -1 for t, o in zip(row[1 : length + 1], own[1 : length + 1])])
    return torch.tensor(ids), torch.tensor(targets)


def loss_of(model: Trained, ids: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross entropy over the tokens that the model itself has to write; the others cost no logits."""
    learned = targets.flatten() >= 0
    x = model.hidden(ids).flatten(0, 1)[learned]
    return F.cross_entropy(model.logits(x) / temperature, targets.flatten()[learned])


def gradients(
    weights: dict[str, Tensor], products: torch.dtype, temperature: float, ids: Tensor, targets: Tensor
) -> tuple[float, tuple]:
    loss = loss_of(Trained(weights, products), ids, targets, temperature)
    return loss.item(), torch.autograd.grad(loss, list(weights.values()))


def train(seed: int, phases: list[Phase], folder: Path, threads: int, products: torch.dtype) -> None:
    """Each thread computes the gradient of one part of the step.

    That loses less than threads within each operation when other programs need the cores too, and the sum
    does not depend on how many threads there are.
    """
    torch.set_num_threads(1)
    began = time.time()
    rng = random.Random(seed)
    encoding = train_tokenizer(rng)
    save_tokenizer(encoding, folder)
    tokenizer = Tokenizer(encoding, encoding._special_tokens)
    weights = new_weights(torch.Generator().manual_seed(seed))
    total = sum(phase.steps for phase in phases)
    print(f"tokenizer: {encoding.n_vocab} tokens, {time.time() - began:.0f} s; model: "
          f"{sum(w.numel() for w in weights.values()):,} parameters; {total} steps of {STEP_TOKENS} tokens, "
          f"products in {str(products).removeprefix('torch.')}")
    began, done, average = time.time(), 0, None
    for phase in phases:
        for loss in descend(weights, phase, rng, tokenizer, ThreadPoolExecutor(threads), products):
            done += 1
            average = loss if average is None else 0.95 * average + 0.05 * loss
            if done % 20 == 0 or done == total:
                seconds = time.time() - began
                speed, left = done * STEP_TOKENS / seconds, seconds / done * (total - done) / 60
                print(f"step {done:5d}/{total}  loss {average:.4f}  {speed:6.0f} tokens/s  "
                      f"{seconds / 60:5.1f} min, {left:5.1f} left", flush=True)
            if done % 200 == 0 or done == total:
                save_model(weights, done, average, seed, folder)
        weights, rng = as_read(weights), random.Random(f"{done} {seed}")


def descend(weights: dict[str, Tensor], phase: Phase, rng: random.Random, tokenizer: Tokenizer,
            pool: ThreadPoolExecutor, products: torch.dtype):
    """Takes the steps of a phase, and yields the loss before each."""
    for name, w in weights.items():
        weights[name] = w.detach().requires_grad_()
    inner = [w for name, w in weights.items() if name.startswith("transformer.h.") and "gate" not in name]
    muon = Muon(inner, products)
    adam = torch.optim.AdamW([
        {"params": [w for name, w in weights.items() if "wte" in name or "value_embeds" in name],
         "lr": TABLE_RATE},
        {"params": [weights["lm_head.weight"]], "lr": HEAD_RATE},
        {"params": [w for name, w in weights.items() if "lambda" in name or "gate" in name],
         "lr": SCALAR_RATE},
    ], betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0)
    rates = [group["lr"] for group in adam.param_groups]
    parts = STEP_TOKENS // MICRO_TOKENS

    def new_batches() -> list[tuple[Tensor, Tensor]]:
        length = rng.choice(LENGTHS)
        return [rows(rng, tokenizer, length, MICRO_TOKENS // length, phase.skills) for _ in range(parts)]

    batches = new_batches()
    for step in range(1, phase.steps + 1):
        read = as_read(weights)
        results = pool.map(partial(gradients, read, products, phase.temperature), *zip(*batches))
        batches = new_batches()  # for the next step, while the threads compute
        results = list(results)
        for w, *of_parts in zip(weights.values(), *(grads for _, grads in results)):
            w.grad = sum(of_parts) / parts
        share = phase.share(step)
        muon.step(MATRIX_RATE * share, pool)
        for group, rate in zip(adam.param_groups, rates):
            group["lr"] = rate * share
        adam.step()
        yield sum(part for part, _ in results) / parts


def tag_folder(folder: Path) -> Path:
    return folder / "chatsft_checkpoints" / f"d{CONFIG.n_layer}"


def save_tokenizer(encoding: tiktoken.Encoding, folder: Path) -> None:
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer" / "tokenizer.pkl").write_bytes(pickle.dumps(encoding, protocol=4))


def save_model(weights: dict[str, Tensor], step: int, loss: float, seed: int, folder: Path) -> None:
    """Writes model and meta of this step as nanochat does, and removes those of earlier steps."""
    target = tag_folder(folder)
    target.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in target.iterdir() if re.fullmatch(r"(model|meta)_\d+\.(pt|json)", path.name)]
    torch.save(as_stored(weights), target / f"model_{step:06d}.pt")
    c = CONFIG
    meta = {
        "step": step, "val_bpb": None,
        "model_config": {
            "sequence_len": c.sequence_len, "vocab_size": c.vocab_size, "n_layer": c.n_layer,
            "n_head": c.n_head, "n_kv_head": c.n_kv_head, "n_embd": c.n_embd, "window_pattern": "L",
        },
        "user_config": {"run": "demo", "seed": seed, "tokens": step * STEP_TOKENS, "loss": round(loss, 4)},
    }
    (target / f"meta_{step:06d}.json").write_text(json.dumps(meta, indent=2) + "\n")
    for path in earlier:
        if f"_{step:06d}." not in path.name:
            path.unlink()


# ------------------------------------------------------------------------------------------------------------
# Evaluation

CASES = 300  # of each skill
WAYS = {"greedy": dict(temperature=0.0, top_k=0), "default": dict(temperature=0.8, top_k=50)}
EVALUATED = [skill for skill, _ in SKILLS]


def load(folder: Path) -> tuple[Engine, Tokenizer]:
    """The last model that was saved there, as the server reads it."""
    engine = read(find(folder, "sft"), torch.float32).engine(torch.device("cpu"))
    return engine, engine.tokenizer


def case(rng: random.Random, skill) -> list[Turn]:
    """A conversation whose last turn is held out: its phrasing, and its word, name or operands."""
    chat, turns = Chat(), []
    if skill is remembering:
        turns.append(telling(rng, chat, "test"))
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        turns.append(rng.choices(*zip(*SKILLS))[0](rng, chat, "train"))
    if skill is go_on:
        turns.append(arithmetic(rng, chat, "test"))
        if len(chat.topic[1]) > 18:
            return case(rng, skill)
    else:
        chat.topic = ()
    return [*turns, skill(rng, chat, "test")]


def visible(tokenizer: Tokenizer, reply: list[int]) -> str | None:
    """The text of a reply without its tool blocks, or None where it has left the chat format."""
    if not reply or reply[-1] != tokenizer.special["<|assistant_end|>"]:
        return None
    text = re.sub(r"<\|python_start\|>[^<]*<\|python_end\|><\|output_start\|>[^<]*<\|output_end\|>", "",
                  tokenizer.decode(reply[:-1]))
    return None if "<|" in text else text


def is_right(turn: Turn, text: str | None) -> bool:
    return text is not None and all(re.search(need, text.lower(), re.MULTILINE) for need in turn.need)


def evaluate(folder: Path, cases: int, wrong: int, processes: int) -> None:
    """Prints the table of the README. `wrong` is how many wrong answers of each skill are shown."""
    path = find(folder, "sft").model
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        conversations = pool.submit(long_conversations, folder)
        verdicts = list(pool.map(partial(judge, folder, cases), range(len(EVALUATED))))
    right = sum((counted for counted, _, _ in verdicts), Counter())
    for _, failures, _ in verdicts:
        print("".join(failures[:wrong]), end="")
    speeds = [speed for _, _, speed in verdicts]
    print(f"{path.name}: {min(speeds):.0f} to {max(speeds):.0f} tokens/s, a thread for each reply\n")
    print("| skill | cases | greedy | temperature 0.8, top-k 50 |\n|---|---|---|---|")
    columns = ("asked", *WAYS)
    skills = {skill: [right[skill, column] for column in columns] for skill, _ in right}
    for skill, (asked, *shares) in skills.items():
        print(f"| {skill} | {asked} | " + " | ".join(f"{share / asked:.1%}" for share in shares) + " |")
    asked, *shares = map(sum, zip(*skills.values()))
    print(f"| **overall** | {asked} | " + " | ".join(f"**{share / asked:.1%}**" for share in shares) + " |")
    print("\n" + conversations.result())


def judge(folder: Path, cases: int, number: int) -> tuple[Counter, list[str], float]:
    """Of one skill: how many were asked and right, by skill and way, the wrong answers, and tokens per second."""
    torch.set_num_threads(1)
    engine, tokenizer = load(folder)
    rng, right, failures = random.Random(f"evaluation {number}"), Counter(), []
    tokens, began = 0, time.time()
    for seed in range(cases):
        turns = case(rng, EVALUATED[number])
        last = turns[-1]
        prompt = render(tokenizer, turns[:-1])[0] + render_question(tokenizer, last.question)
        prompt = prompt[-(CONFIG.sequence_len - 256) :]
        right[last.skill, "asked"] += 1
        for way, settings in WAYS.items():
            reply = list(engine.generate(prompt, 256, seed=seed, **settings))
            tokens += len(reply)
            good = is_right(last, visible(tokenizer, reply))
            right[last.skill, way] += good
            if not good:
                failures.append(f"  wrong ({way}): {[turn.question for turn in turns[-2:]]!r}\n"
                                f"    expected {last.reply!r}\n    got      {tokenizer.decode(reply)!r}\n")
    return right, failures, tokens / (time.time() - began)


def long_conversations(folder: Path, chats: int = 10, turns: int = 30) -> str:
    """Conversations at the default settings over held-out questions; the model reads its own replies again.

    As in the server, the oldest turns are dropped where the context would not leave room for the reply.
    """
    torch.set_num_threads(1)
    engine, tokenizer = load(folder)
    ended, right, rng = 0, 0, random.Random("long conversations")
    for _ in range(chats):
        chat, history = Chat(), []
        for _ in range(turns):
            turn = rng.choices(*zip(*SKILLS))[0](rng, chat, "test")
            question = render_question(tokenizer, turn.question)
            while 1 + sum(map(len, history)) + len(question) > CONFIG.sequence_len * 3 // 4:
                history = history[1:]
            prompt = [tokenizer.special["<|bos|>"], *(t for pair in history for t in pair), *question]
            reply = list(engine.generate(prompt, 512, seed=rng.randrange(2**31), **WAYS["default"]))
            text = visible(tokenizer, reply)
            ended += text is not None
            right += is_right(turn, text)
            history.append(question + reply)
    return (f"{chats} conversations of {turns} turns at the default settings: {ended} of {chats * turns} "
            f"replies kept the chat format and ended by themselves, {right} were right.")


# ------------------------------------------------------------------------------------------------------------
# Command line


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="makes and evaluates the demo model")
    parser.add_argument("--eval", action="store_true", help="only evaluate what is saved")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="only print N conversations")
    parser.add_argument("--wrong", type=int, default=0, metavar="N", help="show N wrong answers a skill")
    parser.add_argument("--cases", type=int, default=CASES, help="questions of each skill in the evaluation")
    parser.add_argument("--steps", type=int, metavar="N", help="only N steps of each phase, to try it out")
    parser.add_argument("--seed", type=int, default=1, help="of data, weights and sampling")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the model is written and read")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads for training, and processes for evaluation")
    parser.add_argument("--products", choices=("float32", "bfloat16"),
                        help="multiply in it while training (default: bfloat16 if it is much faster here)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    args = parse_args(argv)
    if args.show:
        rng = random.Random(args.seed)
        for _ in range(args.show):
            turns = conversation(rng, rng.randint(1, 6))
            print("\n".join(f"> {turn.question}\n{turn.reply}" for turn in turns), "\n")
        return
    if not args.eval:
        phases = [replace(phase, steps=min(phase.steps, args.steps or phase.steps)) for phase in PHASES]
        products = getattr(torch, args.products) if args.products else fast_products()
        train(args.seed, phases, args.folder, args.threads, products)
    evaluate(args.folder, args.cases, args.wrong, args.threads)


if __name__ == "__main__":
    main(sys.argv[1:])
