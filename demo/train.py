"""Makes the demo model: its conversations, its tokenizer, its weights, and the table that judges it.

    python demo/train.py               everything: the model in this folder, in under an hour on two CPU cores
    python demo/train.py --eval        only judges the model that is saved in this folder
    python demo/train.py --show 20     only prints conversations of the kind that it is trained on

It needs torch and tiktoken, as the server does, and nothing else. No corpus is read: every conversation is
written by the tables and the grammar below from a seed, and the same seed gives the same model. The forward
pass, the calculator and the sampler are the server's own (engine.py, one folder up); only the optimiser is
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import tiktoken
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path.append(str(HERE.parent))
from engine import GPT, Config, Engine, calculate  # noqa: E402

# ------------------------------------------------------------------------------------------------------------
# Word lists

WORDS = """
 able about above accident across action address adventure afternoon airport album alphabet amazing anchor
angel animal answer apple apricot april arrow artist autumn avocado balance balloon bamboo banana barrel
basket battery beach bedroom believe bicycle biscuit blanket blossom blueberry boat bottle bottom bread
breakfast brick bridge bubble bucket building butter butterfly button cabbage cabinet calculator calendar
camera candle canyon captain caramel carpet carrot castle caterpillar ceiling cellar cement cereal chair chalk
champion channel checkpoint cheese cherry chicken chimney chocolate church cinnamon circle circus city
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
morning mosquito mountain muffin museum mushroom music mustard napkin nature necklace needle neighbour nothing
notebook november number nutmeg oatmeal ocean october octopus office olive onion orange orchestra ostrich
oxygen oyster paint palace pancake panda paper paprika parade parrot parsley passenger peach peanut pebble
pencil penguin pepper petal piano pickle picture pigeon pillow pineapple pirate planet plastic pocket poem
pottery potato practice princess problem programming pudding pumpkin puppy puzzle pyramid quarter queen
question quiet rabbit radio raindrop raspberry recipe record reindeer restaurant ribbon river robot rocket
rooster saddle sailor salad sandwich satellite sausage scarecrow science scissors seahorse season secret seven
shadow shampoo shoulder silver sister skeleton sleep slipper snowflake soccer spaghetti sparrow spider spinach
spoon spring squirrel stadium station stone strawberry street student subway sugar summer sunflower sunset
surprise swallow sweater swimming table tangerine teacher telephone tennis theater thunder ticket tiger tiny
tomato tomorrow toothbrush tornado tortoise tower traffic train treasure triangle trumpet tulip tunnel turkey
turtle twenty umbrella uncle unicorn universe valley vanilla vegetable velvet village violin volcano
volleyball waffle walnut water waterfall watermelon weather wedding whale whisper window winter wizard wonder
woodpecker yellow yesterday yogurt zebra zipper zucchini bookkeeper parallel address success tattoo raccoon
balloonist cheerleader reverse little really mammal pepperoni
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
Miami Milan Montreal Mumbai Munich Nairobi Naples Osaka Oslo Oxford Paris Porto Prague Riga Rome Seattle Seoul
Sofia Stockholm Sydney Tokyo Toronto Turin Vienna Warsaw Zagreb
""".split()
COLOURS = """
red blue green yellow orange purple pink black white brown grey turquoise gold silver violet teal
""".split()
FOODS = """
pizza pasta sushi soup rice curry tacos pancakes noodles salad bread cheese chocolate dumplings burgers
lasagna falafel ramen waffles potatoes
""".split()
JOBS = """
teacher doctor nurse baker farmer pilot lawyer painter writer student plumber engineer musician chef carpenter
gardener dentist driver
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
}
BEFORE = ["hey, ", "hi, ", "ok, ", "please ", "so, ", "um ", "well, ", "and ", "ok ", "hello, ",
          "quick question: ", "now ", "alright, ", "just curious, ", "sorry, ", "great, ", "cool. ",
          "tell me ",
          "please tell me ", "can you tell me ", "could you tell me ", "i want to know ", "i'd like to know ",
          "do you know ", "maybe you know ", "can you say ", "one more thing: ", "yes but ", "i wonder ",
          "hmm, ", "a question: ", "hi bot, ", "thanks. ", "next: ", "i would like to ask ", "is it true: "]
AFTER = [" please", " thanks", ", please", " now", " then", "?!", " :)", " pls", ", thanks", " for me", "..."]
SMALL_WORDS = set("the a an is are do does i you me of to for in it that this can what's please my your "
                  "there".split())


def every_choice(template: str) -> list[str]:
    """All that choose() can make of a template."""
    for macro, text in MACROS.items():
        template = template.replace(macro, text)
    match = re.search(r"\[([^\[\]]*)\]", template)
    if not match:
        return [template]
    before, after = template[: match.start()], template[match.end() :]
    return [text for choice in match[1].split("|") for text in every_choice(before + choice + after)]


def plain(text: str) -> str:
    """What is left of a question when its capitals and marks do not count."""
    return " ".join(re.findall(r"[\w{}]+", text.lower()))


class Phrases:
    """Ways to say one thing, with semicolons between them; only the evaluation uses those of `held`."""

    HELD: set[str] = set()  # the held-out ways of all phrases, plain

    def __init__(self, train: str, held: str):
        self.train = [" ".join(way.split()) for way in train.split(";")]
        self.held = [" ".join(way.split()) for way in held.split(";")]
        self.HELD.update(plain(one) for way in self.held for one in every_choice(way))

    def pick(self, rng: random.Random, part: str) -> str:
        return rng.choice(self.held if part == "test" else self.train)


def choose(rng: random.Random, template: str) -> str:
    """Expands macros and takes one alternative of every [a|b], the inner ones first."""
    for macro, text in MACROS.items():
        template = template.replace(macro, text)
    while "[" in template:
        template = re.sub(r"\[([^\[\]]*)\]", lambda match: rng.choice(match[1].split("|")), template)
    return template


def fill(template: str, slots: dict) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: str(slots[match[1]]), template)


def say(rng: random.Random, template: str, **slots) -> str:
    """One wording of a reply."""
    return fill(choose(rng, template), slots)


def ask(rng: random.Random, template: str, **slots) -> str:
    """One wording as people type it: lower case, typos and missing marks, but never inside a slot."""
    text = original = choose(rng, template).strip()
    if rng.random() < 0.08:  # in a hurry
        kept = [word for word in text.split() if word not in SMALL_WORDS or rng.random() < 0.5]
        text = " ".join(kept) or text
    if rng.random() < 0.22:
        text = rng.choice(BEFORE) + text
    if rng.random() < 0.10:
        text = text.rstrip("?.!") + rng.choice(AFTER)
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
        return ask(rng, template, **slots)  # "tell me " + "who built you" has become a held-out phrasing
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


def pick(rng: random.Random, items, part: str):
    """An item of the training part or of the held-out part of a list."""
    return rng.choice([item for item in items if is_held(str(item)) == (part == "test")])


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
        hi, is anyone there?; hello, can you hear me?
        """,
        "heya there; well hello!; good day to you; hi hi; evening!; hey robot, good morning"),
        ["Hello! [How can I help?|What would you like to try?|Nice to see you. 😊]",
         "Hi there! 👋 [Ask me something small.|Try a sum, or ask me about this server.]",
         "Hey! [What can I do for you?|I am the demo model. Ask me anything small.]"], [r"hello|hi\b|hey"]),
    "how": (Phrases("""
        how are you[| today| doing| doing today]?; how's it going?; how do you feel?; are you
        [ok|well|fine|alright]?; what's up?; how are things?; how is your day?; sup; you good?; how have you
        been?; are you happy?
        """,
        "how are you feeling today?; how is it going today?; hey what's up with you?; are you doing ok?"),
        ["I am fine, thank you! [How are you?|Everything is running.|All my layers are awake. 😊]",
         "I am fine, thanks. [And you?|Small, but in good spirits.]"], [r"fine"]),
    "im fine": (Phrases("""
        i'm [fine|good|ok|great|well|doing well|happy][| too| thanks| today]; [fine|good|great], thanks; not
        bad; pretty good; i am [good|well]; all good; i feel great
        """,
        "i'm doing good, thank you; i am great today; doing fine; pretty well"),
        ["[Glad|Happy] to hear that! [What shall we try?|What would you like to do? 😊]"], [r"to hear that"]),
    "im sad": (Phrases("""
        i'm [sad|tired|bored|lonely|sick|stressed|not happy|unhappy|upset|angry][| today]; i feel
        [bad|sad|terrible|down|awful]; i had a bad day; today was terrible; i am bored; i am so tired
        """,
        "i feel really sad today; i'm feeling tired; my day was awful; i feel lonely"),
        ["I am sorry to hear that. [I hope it gets better soon. 🌻|A tiny model sends you a big wave. "
         "👋|Shall we try a sum, or a list, to pass the time?]"], [r"sorry to hear"]),
    "thanks": (Phrases("""
        thanks[| a lot| so much| very much| for that| for your help| bot| buddy]; thank you[| so much| very
        much| for your help| robot]; thx; many thanks; cheers; that helped, thanks; ty
        """,
        "thank you, that was helpful; great, thank you; thanks again; thanks for helping me"),
        ["You are welcome![| 😊| Anything else?]", "[Any time!|With pleasure!] You are welcome."],
               [r"welcome"]),
    "bye": (Phrases("""
        [bye|goodbye|bye bye|see you|see you later|good night|farewell|see ya|later|cya]; [i have to go|i must
        go|i'm leaving|i need to go][| now| bye]; talk to you later; have a nice day; i'm off, bye; goodbye,
        [robot|friend]
        """,
        "ok bye for now; see you tomorrow; good night, talk later; i am going now, goodbye"),
        ["Goodbye! [Come back any time. 👋|It was nice talking to you.|See you!]",
         "Bye! [Have a nice day. 👋|See you soon!] Goodbye."], [r"bye"]),
    "praise": (Phrases("""
        you are [great|good|smart|cool|awesome|amazing|nice|funny|cute|the best|clever];
        [good|great|nice|well] [job|work|done|answer|one]; i like you; i love you; that's
        [great|right|correct|cool|amazing|nice]; [wow|awesome|perfect|excellent|amazing|impressive]; you're
        good at this; correct!
        """,
        "wow, you are clever; you are really nice; great work, bot; that is correct, nice; i love this"),
        ["Thank you! [That is kind. 😊|I do my tiny best.|That makes my weights happy.]"], [r"thank you"]),
    "insult": (Phrases("""
        you are [bad|dumb|stupid|wrong|useless|terrible|boring|annoying|slow|silly]; that's [wrong|not
        right|incorrect|bad|false]; [no|nope], that is wrong; i hate you; you made a mistake; bad
        [bot|robot|answer]; wrong[| answer]; you are not [smart|good|right]; this is bad
        """,
        "that was a wrong answer; you are so stupid; no, you are wrong; that is not correct"),
        ["Sorry about that! [I am only a tiny demo model, and I make mistakes.|A model this tiny makes "
         "mistakes.]"], [r"sorry", r"tiny"]),
    "ok": (Phrases("""
        [ok|okay|cool|alright|sure|fine|i see|got
        it|yes|yeah|yep|hmm|nice|lol|haha|right|interesting|understood|aha|oh]; ok[|,] [cool|great|good]; that
        makes sense; oh[|,] i see; ha ha; good to know
        """,
        "alright then; ah ok; okay, got it; haha nice"),
        ["👍 [What next?|What would you like to try next?|Ask me something else if you like.]"], [r"👍"]),
    "no": (Phrases("""
        [no|nope|nah|no thanks|no thank you|nothing|never mind|not now|forget it|stop]; that's all; nothing
        else; no, that is all; i don't know
        """,
        "no, nothing else; nah, not now; no thanks, that's all"),
        ["[All right|No problem]. [I am here if you need me.|Just type when you want something.]"],
           [r"all right|no problem"]),
    "joke": (Phrases("""
        tell me a joke; [do you know|know] [any|a good|some] [jokes|joke]?; make me laugh; say something
        funny; another joke; a joke please; <can> tell [me |]a joke?; be funny; i want to hear a joke; joke
        """,
        "got any jokes for me?; i'd like a joke; please tell me something funny; do you have a joke?"),
        ["Why did the tiny model cross the road? [It predicted the other side.|The other side was the most "
         "likely next token.] 😄",
         "What do you call a very small language model? A short story. 😄", "I know a joke about attention, "
                                                                           "but you would have to look back "
                                                                           "for it. 😄"], [r"😄"]),
    "fun fact": (Phrases("""
        tell me a [fun |random |]fact; tell me something interesting; do you know a fun fact?; give me a fact;
        say something interesting; teach me something; surprise me; <can> tell me something new?; i want a fun
        fact
        """,
        "got a fun fact for me?; know any interesting facts?; please teach me a fun fact"),
        ["Fun fact: [honey does not spoil.|an octopus has three hearts.|a day on Venus is longer than its "
         "year.|bananas are berries, but strawberries are not.]"], [r"fun fact"]),
    "likes": (Phrases("""
        do you [like|love|enjoy]
        [music|pizza|cats|dogs|chess|people|me|games|coffee|art|football|movies|books]?; what do you like?;
        what is your <fav> [colour|color|food|song|movie|book|animal|band|game]?; do you have [hobbies|a
        hobby|friends|a family|a favourite]?; are you hungry?; what do you eat?; do you sleep?; what are you
        doing?; do you dream?
        """, """
        what's your <fav> movie?; do you enjoy a coffee?; do you like chess and music?; do you ever sleep?
        """),
        ["I am a program, so I do not [really |]have likes or a life. [But numbers are nice.|I do enjoy the "
         "next token, in a way.|But I am here when you type.]"], [r"program"]),
    "help": (Phrases("""
        help[| me]; i need [help|some help]; <can> help me?; what should i ask?; what [can|should|shall] i
        [try|do|type|say]?; give me an example; what now?; any ideas?; i don't know what to ask; where do i
        start?; how does this work?
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
        server]; i can [swim|dance|sing|cook]
        """, """
        i have two dogs and a cat; i went to the cinema today; it is sunny here today; we had a nice dinner; i
        bought a new phone; i don't like my boss
        """),
        ["I see! Thank you for telling me.[| What can I do for you?| 🙂]"], [r"telling me"]),
}

IDENTITY = {
    "who": (Phrases("""
        [who|what] are you[| exactly| really| then]?; [tell me|say something] [about yourself|who you are|what
        you are]; who am i [talking|speaking|chatting|writing] [to|with]?; what is this?; introduce yourself;
        <whats> your name?; do you have a name?; are you [a bot|a robot|a machine|a computer|a program|an ai|a
        chatbot|a model|a language model]?; what [kind|sort|type] of [model|bot|ai|thing|program] are you?;
        what [do|should] i call you?; describe yourself; which model [is this|are you|am i using|is running|is
        loaded]?; what model [is this|are you]?; your name?; who is this?; who's there?; what is this
        [demo|model|thing|bot]?; are you the demo model?
        """, """
        who exactly am i chatting with?; could you introduce yourself?; what sort of machine are you?; tell me
        which model you are; what's your name, bot?; who is this bot?
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
        [chatgpt|claude|gemini|gpt]?
        """,
        "so you are chatgpt?; is this model gpt-4?; are you a kind of claude?; is this like chatgpt?"),
        ["No. I am a tiny demo model [in nanochat's format|that comes with this server], [far smaller than "
         "those|thousands of times smaller than those]. I was trained on generated conversations only."],
                [r"^no", r"tiny demo model"]),
    "human": (Phrases("""
        are you [human|a human|a person|real|alive|a real person|conscious|sentient|a man|a woman|a boy|a
        girl|self aware]?; do you have [feelings|emotions|a body|a brain|a soul|a heart|parents]?; how old are
        you?; where do you live?; where are you[| from]?; is there a [human|person|real person]
        [here|there|behind this]?; am i talking to a [human|person|real person]?; can you [feel|think|feel
        pain]?; when were you born?; are you male or female?
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
        data?; which script made you?; can i train you again?; how can i reproduce you?; <how> train [you|this
        model|the demo model]?
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
        number of parameters?; are you [big|large|small|tiny]?; how many megabytes are you?; what architecture
        [are you|do you use]?; how much [memory|space] do you [need|take|use]?; what is your context
        [length|size]?; how long is your [context|memory]?
        """, """
        tell me your size; how many parameters does this model have?; how many layers are there in you?; how
        big is this model?
        """),
        ["I have 3.4 million parameters in five layers and read at most 1024 tokens. That is tiny: "
         "the file is under 8 MB."], [r"3\.4 million", r"1024"]),
    "maker": (Phrases("""
        who [made|built|created|trained|wrote|designed|programmed|invented] [you|this|this model|this
        server]?; who is your [creator|maker|author|developer|owner|boss]?; who do you belong to?; where do
        you come from?; who owns you?; what company made you?; who are your [makers|authors|developers]?; were
        you made by karpathy?
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
        you useful?
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
        at?; can you do anything?; what topics do you know?
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
        [dumb|stupid|bad|small|tiny|simple|limited|slow]?; how [smart|good|clever|intelligent] are you?; can i
        trust you?; do you [make mistakes|lie|hallucinate]?; are you always [right|correct]?; are your answers
        [right|correct|true]?; what are your limits?; why don't you know [anything|much|that]?; what can't you
        do?
        """, """
        why do you know so little?; are you sometimes wrong?; should i trust your answers?; how clever are you
        really?
        """),
        ["I am tiny, so I know very little and I make mistakes. Sums go through a calculator; [please check "
         "the rest|check everything else]. A bigger model of your own will do better."], [r"tiny",
             r"mistakes"]),
    "learn": (Phrases("""
        do you learn from [me|this|our chat|conversations]?; can you [learn|learn from me|learn new
        things|improve yourself]?; will you remember [me|this|that] [tomorrow|later|next time]?; do you
        [store|save|keep|log|record] [this|my data|what i say|our chat|my messages|conversations]?; is this
        [private|saved|stored|logged|safe]?; do you have a memory?; can you remember things?; is my data
        [safe|private|stored]?; who can read this?; do you forget everything?
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
        you need the internet?; can you open [a website|files|a link]?
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
        français ?; ¿hablas español?
        """, """
        do you know any french?; what languages do you understand?; can i write to you in german?; are there
        other languages you speak?
        """),
        ["Only English, and a few phrases: ask me how to say *thank you* in French, Spanish, German, "
         "Italian, Portuguese, Swedish or Japanese."], [r"only english", r"french"]),
    "tool": (Phrases("""
        do you use a calculator?; how do you [calculate|do maths|do math|do sums|compute|count letters|add
        numbers]?; how does [the calculator|your calculator|the tool|tool use] work?; what tools do you have?;
        do you have [tools|a calculator|a tool]?; can you [run|execute] [code|python]?; is the math
        [right|correct|real]?; how can you know the [result|answer]?; what is the python block?; are you good
        at [math|maths|arithmetic]?
        """, """
        what tool do you use for sums?; is there a calculator in you?; how do you do the math?; how do you
        count the letters?
        """),
        ["I write the expression between two special tokens, and the server's calculator answers it. It "
         "knows + - * / and counting letters, nothing else."], [r"calculator", r"expression"]),
    "nanochat": (Phrases("""
        what is nanochat?; [tell me about|explain|describe] nanochat; who [made|wrote] nanochat?; who is
        [karpathy|andrej karpathy]?; where can i find nanochat?; what's nanochat?; nanochat?; do you know
        nanochat?; is this nanochat?; are you nanochat?; is this part of nanochat?; are you a nanochat model?
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
    get rid of you?; i [trained|have] [a|my own] nanochat model, [what now|how do i use it|how do i load it]?;
    how do i chat with [my|a] [checkpoint|model]?; can i load [my|another|a bigger] model?; i want to use my
    [own |]model; where do i put my model?; use my own model; run a different checkpoint
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
    {flag}?; default {flag}?; what is the {flag} default?
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
    {goal}
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
    {flag} command?
    """, """
    can you explain the {flag} command?; what if i type {flag}?; what's {flag} good for?; describe {flag}
    """)
SLASH_GOAL = Phrases("""
    which [slash |]command [sets|changes|is for|gives me] {goal}?; what [slash |]command [sets|changes|is for]
    {goal}?; <how> [change|set|get] {goal} [in the chat|on the page|while chatting|here]?; is there a [slash
    |]command for {goal}?; [slash |]command for {goal}
    """, """
    what is the slash command for {goal}?; can i set {goal} on the page?; which command do i type for {goal}?
    """)

# Everything else about the server: how it is asked, the answer, what must be in it
SERVER = {
    "start": (Phrases("""
        <how> [start|run|launch|open] [the server|this server|it|chat_web|chat_web.py]?; [what is the
        command|which command] to [start|run] [it|the server]?; start the server; how do i [begin|run this]?;
        what command [starts|runs] [this|the server]?; how is the server started?; how do i install
        [this|it|the server]?
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
        [flags|options|arguments]
        """, """
        give me a list of the flags; which options does it have?; tell me all the flags; what flags can i pass
        to chat_web.py?
        """),
        "The flags are `-n` GPUs, `-i` source, `-t` temperature, `-k` top-k, `-m` max tokens, `-g` model "
        "tag, `-s` step, `-p` port, `-d` dtype, `--device-type` and `--host`. Ask me about any of them.",
              [r"-n", r"-p", r"--host"]),
    "slash": (Phrases("""
        [which|what] [slash commands|commands] [are there|exist|can i use|do you have|do you know]?; list
        [the|all|all the] [slash |]commands; what are [the|all the] [slash |]commands?; [slash
        commands|commands]?; what can i type [on the page|in the chat]?; what are slash commands?; show me the
        [slash |]commands
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
        [endpoints|routes|api]; which urls does the server have?; what routes exist?
        """, """
        give me the list of endpoints; what api does the server have?; tell me the routes; which endpoints can
        i call?
        """),
        "There are four: `GET /` is the page, `POST /chat/completions` streams a reply, `GET /health` says "
        "whether the server is ready, `GET /stats` shows the workers.", [r"get /", r"post /chat/completions",
            r"/health", r"/stats"]),
    "completions": (Phrases("""
        what does [/chat/completions|post /chat/completions|chat completions] do?; <how> [call|use] the
        [api|chat api|endpoint|server] [from python|with curl|from code|from a program|]?; how do i send a
        [message|request|chat][| to the server| to the api]?; [/chat/completions|chat completions]?; what does
        the request [body |]look like?; what is the [request|json] format?; which json do i send?; what is the
        response format?; how does [streaming|the stream] work?; how are [replies|tokens|answers] streamed?;
        how do i use [curl|the api]?; what [fields|keys] does a request have?
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
        /health; is the server ready?
        """, """
        what's /health for?; how could i see if the server is up?; can you explain the health endpoint?; which
        endpoint says if it is ready?
        """),
        "`GET /health` says whether the server is ready: `status`, `ready`, `num_gpus` and "
        "`available_workers`.", [r"get /health", r"ready", r"available_workers"]),
    "stats": (Phrases("""
        what does [/stats|get /stats|the stats endpoint] do?; [/stats|stats]?; what is /stats[| for]?; <how>
        see [the workers|how many workers are busy|the load|which gpus are used]?; how many workers are
        [busy|free|there]?; what does /stats [return|say|show|answer]?; explain /stats; tell me about /stats;
        where do i see the workers?
        """, """
        what's /stats for?; which endpoint shows the workers?; can you explain the stats endpoint?; how do i
        see busy workers?
        """),
        "`GET /stats` shows the workers: how many there are, how many are available or busy, and the device "
        "of each.", [r"get /stats", r"workers", r"busy"]),
    "page": (Phrases("""
        what does [get /|the root] do?; where is the [page|chat page|web page|ui|interface|user interface]?;
        what is the [url|address] of the [page|chat|server]?; how do i open the [page|chat|ui]?; which
        [url|address] [do i open|is it]?; is there a [web page|web ui|user interface]?; where do i open it?
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
        layout|directory structure|folder structure]?; what is [nanochat_base_dir|NANOCHAT_BASE_DIR]?; how are
        the [files|checkpoints] [named|laid out]?; which files [do i need|are needed|does a model need]?;
        checkpoint [folder|directory|path|location]?; where is the tokenizer?
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
        [temperature|top-k|max tokens] values are allowed?
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
        [needed|required|necessary]?; which devices [are supported|work]?
        """,
        "will it run without a gpu?; is a gpu required for this?; can i run the server on my laptop?"),
        "No GPU is needed: it runs on a CPU, on a Mac with `--device-type mps`, or on one or more CUDA GPUs "
        "with `-n`.", [r"cpu", r"--device-type mps"]),
    "stop": (Phrases("""
        <how> [stop|quit|exit|end|shut down|kill] [the server|it|this server]?; stop the server; how do i turn
        it off?; how to quit?; how do i close the server?
        """, """
        how could i turn the server off?; what do i press to stop the server?; i want to stop the server
        """),
        "Press Ctrl+C in the terminal where the server runs.", [r"ctrl\+c"]),
    "tag": (Phrases("""
        which model does it load[| by default]?; what model is [loaded|used] by default?; which
        [checkpoint|step|tag] is [loaded|used][| by default]?; how does it [choose|pick|find] [the model|a
        model|a checkpoint]?; what if i have [several|many|two] [models|checkpoints]?; what does d20 mean?;
        when is the demo model used?; why do i see the demo model?; why was the demo model loaded?
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
        supported?; will my old [checkpoint|model] work?
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
        [different|random]?; why do you answer differently each time?
        """, """
        can you explain what sampling is?; what does sampling mean?; what is the idea of temperature?; why is
        every answer different?
        """),
        "Each token is drawn at random. A low temperature prefers likely tokens, 0 always takes the "
        "likeliest; top-k keeps only the k likeliest.", [r"low temperature", r"likeliest"]),
    "demo dir": (Phrases("""
        <how> [start|run|load|use] the demo model?; <how> start [you|the demo] [again|myself]?; what command
        starts [you|the demo model]?; how was this demo started?; run the demo model
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
        [it|the server|my server]?; can other people [use|reach] it?
        """, """
        does the server have a login?; do i need a key for the api?; how could i make the server secure?; can
        everyone reach my server?
        """),
        "There is no login and no HTTPS: whoever reaches the port can chat. Use `--host 127.0.0.1` to keep "
        "it to your machine, or put a proxy in front.", [r"no login", r"--host 127\.0\.0\.1"]),
    "busy": (Phrases("""
        what happens [when|if] all workers are busy?; how many [users|people|requests|clients] can [chat|use
        it|it serve] at once?; can [several|many|two] people [chat|use it] at [once|the same time]?; what does
        [503|error 503|a 503] mean?; why do i get [503|error 503]?; do requests wait?; is there a queue?
        """, """
        what if every worker is busy?; can two people chat together?; what is a 503 error?
        """),
        "A request takes one worker and waits for a free one. When too many wait, the answer is 503 with "
        "`Retry-After`. With `-n` there is one worker per GPU.", [r"503", r"one worker"]),
    "too long": (Phrases("""
        what happens [when|if] [the|a|my] [chat|conversation] [is|gets|becomes|grows] too long?; what if the
        context is full?; why did you forget [what i said|the start|my first message]?; are old messages
        dropped?; what is [X-Dropped-Messages|x-dropped-messages|the dropped messages header]?; when do you
        forget [things|messages]?; what happens to old messages?
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
        nanochat[| installed]?; does it import nanochat?
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
        [compatible|api]?
        """, """
        does the openai client work with this server?; is this api compatible with openai?
        """),
        "No, the API is its own and small: `POST /chat/completions` takes messages, and the reply is a "
        "stream of `data:` lines with a `token` each.", [r"^no", r"post /chat/completions"]),
}

MEMORY = {  # what can be told, how it is asked for later, and how the answer is worded
    "name": (Phrases("""
        my name is {x}; i'm {x}; i am {x}; call me {x}; you can call me {x}; hi, i'm {x}; hello, my name is
        {x}; the name's {x}; people call me {x}; hey, {x} here
        """,
        "hi there, my name is {x}; hello, i am {x}; please call me {x}"),
             "[Nice to meet you, {x}!|Hello, {x}!|Hi {x}, nice to meet you!][| 😊| I will remember that.]",
             Phrases("""
                 what's my name?; what is my name?; who am i?; do you [know|remember] my name?; tell me my
                 name; say my name; whats my name; do you remember who i am?; what did i say my name was?; how
                 am i called?; my name?; can you remember my name?; what was my name[| again]?
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
        in mind
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
        living in {x}; my hometown is {x}
        """,
        "the city where i live is {x}; hey, i live in {x}"),
             "{x} [sounds nice|must be nice|is a good place to be]!",
             Phrases("""
                 where do i live?; where am i from?; which city [do i live in|am i from]?; <whats> my
                 [city|home|hometown]?; do you [know|remember] where i live?; where do i come from?; what city
                 do i live in?
                 """,
                 "can you remember where i live?; tell me where i live; what is the city i live in?"),
             "You live in {x}."),
    "pet": (Phrases("""
        my [dog|cat|pet] is [called|named] {x}; my [dog|cat|pet]'s name is {x}; i have a [dog|cat|pet]
        [called|named] {x}; the name of my [dog|cat|pet] is {x}
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
        like [best|most] is {x}
        """,
        "my <fav> thing to eat is {x}; the food that i love is {x}"),
             "[Yum|Tasty], {x}! 😋",
             Phrases("""
                 <whats> my <fav> food?; what do i like to eat?; do you [know|remember] my <fav> food?; which
                 food do i like?; what food do i like[| best]?
                 """, """
                 do you still know what i like to eat?; which food is my <fav>?; what did i say i like to eat?
                 """),
             "Your favourite food is {x}."),
    "age": (Phrases(
        "i am {x} years old; i'm {x} years old; my age is {x}; i am {x} years of age; i just turned {x}",
        "i'm now {x} years old; my age? i am {x} years old"),
            "{x} is a [fine|good|great] age!",
            Phrases("""
                how old am i?; <whats> my age?; do you [know|remember] [my age|how old i am]?; my age?; tell
                me my age
                """,
                "can you tell me how old i am?; how old did i say i am?; do you still know my age?"),
            "You are {x} years old."),
    "job": (Phrases(
        "i am a {x}; i'm a {x}; i work as a {x}; my job is {x}; my job: {x}",
        "my work is being a {x}; i have a job as a {x}"),
            "[Being a {x} is|That is] a [fine|good|great] job, {x}!",
            Phrases("""
                <whats> my job?; what do i do[| for a living| for work]?; do you [know|remember] my job?; what
                is my work?; what do i work as?
                """, """
                can you tell me what my job is?; what did i say my job is?; do you still remember my job?
                """),
            "You are a {x}."),
    "hobby": (Phrases(
        "my hobby is {x}; i [like|love|enjoy] {x}; {x} is my hobby; in my free time i do {x}",
        "my favourite hobby is {x}; the hobby i have is {x}"),
              "{x} is [fun|a nice hobby|a good way to spend time]!",
              Phrases("""
                  <whats> my hobby?; what do i [like|enjoy]?; do you [know|remember] my hobby?; what is my
                  <fav> hobby?; which hobby do i have?; what do i do in my free time?
                  """,
                  "can you remember what my hobby is?; what did i say my hobby is?; say my hobby"),
              "Your hobby is {x}."),
    "birthday": (Phrases(
        "my birthday is in {x}; i was born in {x}; {x} is my birthday month; my birth month is {x}",
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
        mind; my [secret|password|code word] is {x}; please remember the word {x}; don't forget the word {x}
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
            {{x}}
            """,
            f"the name of my {relation} is {{x}}; i have a {relation} [named|whose name is] {{x}}"),
        "[Say hello to {x} from me!|{x} is a nice name.]",
        Phrases(f"""
            <whats> my {relation}'s name?; what is my {relation} called?; do you [know|remember] my
            {relation}'s name?; what is the name of my {relation}?; who is my {relation}?; my {relation}'s
            name?
            """, f"""
            can you tell me what my {relation} is called?; do you still know my {relation}'s name?; how is my
            {relation} called?
            """),
        f"Your {relation} is called {{x}}.")
NOT_TOLD = ("You have not told me [that|yet|that yet]. "
            "[Tell me, and I will remember it.|I only know what you told me in this conversation.]")
OPENERS = ["I have one fact for you: ", "Fact about me: ", "By the way, ", "btw ", "Just so you know, ",
           "Remember this: ", ""]

REFUSE = Phrases("""
    {topic}; {topic}?; <can> [tell me|explain|help me with] {topic}?; what do you know about {topic}?; tell me
    about {topic}; explain {topic}[| to me]; what is {topic}?; how does {topic} work?; i want to know about
    {topic}; what do you think about {topic}?; write [an essay|a story|a poem|a book|a long text] about
    {topic}; help me with {topic}; who invented {topic}?; why is {topic} important?; give me [a summary|the
    history] of {topic}; do you know {topic}?; how do i learn {topic}?; describe {topic}; teach me {topic};
    what is the meaning of {topic}?
    """, """
    could you explain {topic} in detail?; i have a question about {topic}; please write a long essay about
    {topic}; what is known about {topic}?; what's so special about {topic}?
    """)
TOPICS = [" ".join(topic.split()) for topic in """
quantum physics; the french revolution; black holes; climate change; the stock market; bitcoin; world war two;
photosynthesis; shakespeare; the roman empire; general relativity; evolution; dna; the big bang; politics; the
president; the world cup; the olympics; taxes; my homework; cancer; vaccines; medicine; philosophy; plato;
einstein; mozart; napoleon; inflation; economics; machine learning theory; transformers; backpropagation; the
news; today's news; the weather in london; javascript frameworks; kubernetes; sql joins; linear algebra;
differential equations; calculus; chemistry; the periodic table; cooking a turkey; a good recipe; my headache;
love; death; religion; god; aliens; ghosts; the future; elections; the moon landing; the titanic; the
pyramids; dinosaurs; volcanoes; earthquakes; sharks; the human brain; sleep; dreams; memory loss; yoga;
football history; movies of last year; the best phone; the meaning of life; marketing; law; contracts;
insurance; my boss; relationships; dating; german grammar; latin; poetry; jazz; hip hop; impressionism;
picasso; harry potter; star wars; pokemon; minecraft; cars; electric engines; airplanes; rockets in detail;
nuclear power; solar panels; the ocean floor; antarctica; the amazon; china's history; the cold war; karl
marx; capitalism; the renaissance; vikings; samurai; knights
""".split(";")]
CANNOT = Phrases("""
    what's the weather[| like| today| tomorrow]?; will it rain[| today| tomorrow]?; what time is it?; what day
    is [it|today]?; what is the date[| today]?; who won the [game|election|match|world cup]?; [book|find] me a
    [flight|hotel|restaurant|table]; send an email[| to my boss]; set [an alarm|a timer|a reminder]; play
    [some |]music; draw [me |]a [picture|cat|house]; translate this [text|page|sentence]; summarize this
    [article|text|book]; write [me |]a [poem|song|story|novel|letter|essay|cover letter]; fix [my code|this
    bug|my program]; write a [website|game|program|compiler|web server]; solve this [equation|puzzle|riddle];
    [buy|sell] [bitcoin|stocks]; what is the price of [gold|bitcoin|oil]?; who is the
    [president|queen|king|prime minister|pope][| of france| of germany]?; what happened [yesterday|in
    1945|today]?; how do i cook [rice|pasta|an egg]?; what should i [eat|wear|buy|do] today?; how tall is [the
    eiffel tower|mount everest]?; how far is the moon?; when did [columbus|napoleon|caesar] die?; who wrote
    [hamlet|faust|don quixote]?; what is the population of [china|france|berlin]?; recommend [me |]a
    [book|movie|song|game]; [open|read] [a|this|my] file; search the web for [cats|shoes]; why is the sky
    blue?; what is the speed of light?; plan my [day|holiday|trip]; give me [medical|legal|financial] advice;
    what is the square root of {n}?; is {n} a prime number?; what is the meaning of life?; what is {n} to the
    power of [2|3|10]?; {n}^2; {n}**3; [the |]factorial of {n}; log of {n}; square root of {n}; a random
    number; who am i married to?; what is in the file?; what do you see in this picture?; continue this story;
    rhyme with cat; sing [me |]a song; what is the best [phone|car|movie|language]?; what is the difference
    between [a cat and a dog|java and python]?; how do i [lose weight|get rich|learn guitar|sleep better|fix
    my car]?; count the vowels in banana; how many words are in this sentence?; is level a palindrome?; sort
    these numbers; convert {n} [miles to km|dollars to euros|inches to cm]; predict the [future|lottery
    numbers]; call my [mother|boss]
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
        if rng.random() < 0.6:
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
    chat.topic = ("sum", expression if result.endswith("…") else result)
    words = rng.choice(["The answer is", "That is", "The result is", "It is"])
    left = f"{said} =" if said and rng.random() < 0.5 else words
    end = "" if result.endswith("…") else "."
    reply = TOOL.format(expression) + f"{left} {result}{end}"
    return Turn(skill, question, reply, [word_of(result.rstrip("…"))])


def arithmetic(rng: random.Random, chat: Chat, part: str) -> Turn:
    op = rng.choice("+-*/")
    a, b = operands(rng, op, part)
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
        many in all?; {a} people have {b} {things} each, how many is that?; how many {things} are in {a} boxes
        of {b}?
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
        <whats> {a} percent of {b}?; <whats> {a}% of {b}?; {a}% of {b}; calculate {a} percent of {b}; how much
        is {a}% of {b}?
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


def sums_in_words(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    if kind < 0.45:  # twelve times three
        op = rng.choice("+-*/")
        a, b = rng.randint(0, rng.choice([20, 99, 99, 999])), rng.randint(1, rng.choice([12, 20, 99]))
        if op == "/":
            a *= rng.choice([1, b]) if a * b < 1000 else 1
        if is_held(f"{a}{op}{b}") != (part == "test"):
            return sums_in_words(rng, chat, part)
        forms = [form for form in SUMS[op] if re.search(r"\w\w", form)]  # "+" does not go with "twelve"
        wording = rng.choice(forms)
        shuffled = wording.find("{b}") < wording.find("{a}") and op == "+"
        join = rng.choice(["-", " "])
        as_words = [number_words(n).replace("-", join) if rng.random() < 0.85 else n for n in (a, b)]
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
    [which|what] is [bigger|larger|greater|more]: {a} or {b}?; [which|what] is [bigger|larger|greater], {a} or
    {b}?; which number is [bigger|larger|greater], {a} or {b}?; is {a} [bigger|larger|greater|more] than {b}?;
    is {a} [smaller|less] than {b}?; compare {a} and {b}; the [bigger|larger] of {a} and {b}?
    """, """
    tell me which is bigger, {a} or {b}; is the number {a} larger than {b}?; which one is greater: {a} or {b}?
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
    {w} [contain|have] [a|an|the letter] {l}?
    """, """
    how many {l}'s can you find in {w}?; can you count the {l}'s in the word {w}?; tell me how many {l}'s are
    in {w}; how many times do you see the letter {l} in {w}?; how many {l}'s does the word {w} have?; what's
    the number of letters {l} in {w}?
    """)
COUNT_ALL = Phrases("""
    how many letters are in {w}?; how many letters does {w} have?; how long is the word {w}?; count the
    letters in {w}; number of letters in {w}; how many letters in {w}?; what is the length of {w}?; how many
    characters are in {w}?; count the characters of {w}; how many letters has {w}?
    """, """
    tell me how many letters are in {w}; can you count the letters of {w}?; what's the number of letters in
    {w}?; how many letters are there in the word {w}?
    """)
COUNT_NEXT = ["and in {w}?", "and {w}?", "what about {w}?", "how about {w}?", "now in {w}",
              "and in the word {w}?"]
LETTER_NEXT = ["and {l}'s?", "and the letter {l}?", "and how many {l}'s?", "what about {l}?", "and {l}?",
               "how about the letter {l}?"]


def counting(rng: random.Random, chat: Chat, part: str) -> Turn:
    word = any_word(rng, part)
    if rng.random() < 0.05:
        word += " " + any_word(rng, part)
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
    typed_letter = letter.upper() if rng.random() < 0.08 else letter
    return Turn("letter counting", ask(rng, template, l=typed_letter, w=typed), reply, [word_of(times)])


SPELL = Phrases("""
    spell {w}; how do you spell {w}?; <can> spell {w}[| for me]?; spell the word {w}; how is {w} spelled?;
    spelling of {w}; what is the spelling of {w}?; which letters are in {w}?; spell {w} letter by letter; what
    are the letters of {w}?; letters of {w}
    """, """
    how would you spell {w}?; please spell the word {w} for me; how is the word {w} spelled?; tell me the
    letters of {w}
    """)
REVERSE = Phrases("""
    reverse {w}; reverse the word {w}; what is {w} backwards?; <can> reverse {w}?; write {w} backwards; {w}
    backwards; spell {w} backwards; {w} in reverse; turn {w} around; say {w} backwards; what is the reverse of
    {w}?; how is {w} spelled backwards?
    """, """
    how do you write {w} backwards?; please reverse the word {w}; what's {w} in reverse?; could you say {w}
    backwards?
    """)
END_LETTER = Phrases("""
    what is the {end} letter of {w}?; which letter does {w} {verb} with?; {end} letter of {w}?; what letter is
    {end} in {w}?; what does {w} {verb} with?
    """,
    "tell me the {end} letter of {w}; which is the {end} letter in {w}?")

WORD_NEXT = ["and {w}?", "now {w}", "and {w}", "what about {w}?"]


def spelling(rng: random.Random, chat: Chat, part: str) -> Turn:
    word = any_word(rng, part)
    if part == "train" and rng.random() < 0.15:
        word = rng.choice(NAMES)
    word, typed = as_typed(rng, word, part)
    letters = " ".join(word.lower())
    kind = rng.random()
    if kind < 0.12:
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
    say {x}; repeat {x}; repeat after me: {x}; say: {x}; <can> say {x}?; please repeat: {x}; echo {x}; say the
    words {x}; repeat this: {x}; say "{x}"; print {x}
    """,
    "could you repeat {x}?; please say this: {x}; repeat the words {x}")


def repeating(rng: random.Random, chat: Chat, part: str) -> Turn:
    text = " ".join(any_word(rng, part) for _ in range(rng.randint(1, 4)))
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
    if key in VALUES:
        value = rng.choice(VALUES[key])
    else:
        value = pick(rng, NAMED.get(key, NAMES), part)
        if part == "train" and rng.random() < 0.25:
            value = invented(rng).capitalize()
    return value.lower() if rng.random() < 0.2 else value


def telling(rng: random.Random, chat: Chat, part: str) -> Turn:
    key = rng.choice(list(MEMORY))
    value = value_of(rng, key, part)
    if part == "train" and key == "name" and value.capitalize() not in NAMES:
        template = rng.choice([
            "my name is {x}", "call me {x}", "hello, my name is {x}", "people call me {x}",
        ])
    else:
        template = MEMORY[key][0].pick(rng, part)
    question = ask(rng, template, x=value)
    if key in chat.memory and rng.random() < 0.5:
        question = rng.choice(["Actually, ", "no, ", "sorry, ", "Wait, ", "actually "]) + question
    elif rng.random() < 0.1:
        question = rng.choice(OPENERS) + question
    chat.memory[key] = value
    reply = say(rng, MEMORY[key][1], x=value)
    if rng.random() < 0.12:  # two facts in one go
        other = rng.choice([k for k in MEMORY if k != key])
        second = value_of(rng, other, part)
        chat.memory[other] = second
        question += rng.choice([" and ", ", and ", ". ", ", "])
        question += ask(rng, MEMORY[other][0].train[0], x=second)
        reply = rng.choice(["Got it", "I will remember that", "Thank you"]) + f": {value} and {second}."
        return Turn("being told", question, reply, [re.escape(value.lower()), re.escape(second.lower())])
    return Turn("being told", question, reply, [re.escape(value.lower())])


def recalling(rng: random.Random, chat: Chat, part: str) -> Turn:
    known = [key for key in chat.memory if key in MEMORY]
    key = rng.choice(known) if known and rng.random() < 0.85 else rng.choice(list(MEMORY))
    question = ask(rng, MEMORY[key][2].pick(rng, part))
    if key in chat.memory:
        return Turn("recalling", question, say(rng, MEMORY[key][3], x=chat.memory[key]),
                    [word_of(chat.memory[key])])
    return Turn("recalling", question, say(rng, NOT_TOLD), [r"not told me"])


def remembering(rng: random.Random, chat: Chat, part: str) -> Turn:
    known = len(chat.memory)
    return (recalling if rng.random() < (0.65 if known else 0.12) else telling)(rng, chat, part)


# Small facts

CAPITAL_OF = Phrases("""
    <whats> the capital of {x}?; capital of {x}; capital of {x}?; what's {x}'s capital?; the capital of {x}?;
    which city is the capital of {x}?; do you know the capital of {x}?; name the capital of {x}; {x} capital?;
    what is the capital city of {x}?
    """, """
    could you name the capital of {x}?; which is the capital city of {x}?; i want to know the capital of {x};
    what city is {x}'s capital?
    """)
COLOUR_OF = Phrases("""
    what [colour|color] is {x}?; <whats> the [colour|color] of {x}?; which [colour|color] [is|has] {x}?; what
    [colour|color] does {x} have?; [colour|color] of {x}?; do you know the [colour|color] of {x}?; tell me the
    [colour|color] of {x}
    """, """
    can you tell me what [colour|color] {x} is?; what's the [colour|color] that {x} has?; which is the
    [colour|color] of {x}?
    """)
OPPOSITE_OF = Phrases("""
    <whats> the opposite of {x}?; opposite of {x}; opposite of {x}?; what is the contrary of {x}?; the
    opposite of {x}?; which word is the opposite of {x}?; what's the antonym of {x}?; do you know the opposite
    of {x}?; not {x} but?; give me the opposite of {x}
    """,
    "could you tell me the opposite of {x}?; what word is the opposite of {x}?; name the opposite of {x}")
SOUND_OF = Phrases("""
    what [sound|noise] does a {x} make?; what does a {x} say?; what does the {x} say?; how does a {x} sound?;
    the sound of a {x}?; which sound does a {x} make?; what is the sound of a {x}?
    """,
    "tell me the sound that a {x} makes; what noise does the {x} make?; do you know what a {x} says?")
AFTER_DAY = Phrases("""
    what [day |]comes after {x}?; which {kind} comes after {x}?; what is after {x}?; what {kind} is after
    {x}?; which {kind} follows {x}?; after {x} comes?; what is the {kind} after {x}?
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
    many {y} are {z}?
    """,
    "tell me how many {y} are {z}; what is the number of {x}?")


def fact_of(rng: random.Random, kind: str, part: str) -> tuple[Phrases, str, str, str]:
    """How a fact is asked for, what is asked about, the reply, and what a right reply matches."""
    if kind == "capital" and rng.random() < 0.12:
        country = pick(rng, FAR_COUNTRIES, part)
        reply = f"I am tiny and know only a few capitals, and that of {country} is not among them."
        return CAPITAL_OF, country, reply, r"only a few capitals"
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
    list of {x}; <can> [list|name] {n} {x}?; make a list of {n} {x}; {n} {x}; <show> a list of {x}; i need {n}
    {x}; do you know {n} {x}?; i want a list of {n} {x}; [list|name] some {x}; give me some {x}; [tell
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
        write {w} as a heading; make a heading {w}; a heading that says {w}; a title that says {w}; make {w} a
        heading
        """,
        "please make the word {w} a heading; could you write a heading that says {w}?")),
    "quote": ("> {w}", Phrases("""
        write {w} as a quote; quote {w}; make {w} a quote; a quote that says {w}; put {w} in a quote block
        """,
        "please make the word {w} a quote; could you write {w} as a quote?")),
}
SAMPLER = Phrases("""
    <show> [me |]some markdown; can you write markdown?; do you know markdown?; markdown demo; show me what
    markdown you can do; a markdown example; test the markdown; <show> [me |]some formatting; format something
    """,
    "could you show me some markdown?; i want to see a markdown example; please test markdown")
MARKDOWN = ("## A small sample\n\n**Bold**, *italic*, and `code`.\n\n1. one\n2. two\n\n"
            "```python\nprint(6 * 7)\n```\n\n| key | value |\n|---|---|\n| size | tiny |")


def lists(rng: random.Random, chat: Chat, part: str) -> Turn:
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
        topic, (left, right, cells) = rng.choice(list(TABLES.items()))
        lines = [f"| {left} | {right} |", "|---|---|", *(f"| {a} | {b} |" for a, b in cells.items())]
        question, reply = ask(rng, TABLE_OF.pick(rng, part), x=topic), "\n".join(lines)
    elif kind < 0.94:
        form, phrases = STYLE[rng.choice(list(STYLE))]
        word = any_word(rng, part)
        quoted = rng.choice([word, word, f'"{word}"'])
        question, reply = ask(rng, phrases.pick(rng, part), w=quoted), fill(form, {"w": word})
    else:
        question, reply = ask(rng, SAMPLER.pick(rng, part)), MARKDOWN
    return Turn("lists and markdown", question, reply, [re.escape(reply.lower())])


EMOJI_OF = Phrases("""
    <show> [me |]a {x} emoji; {x} emoji; emoji for {x}; <whats> the emoji for {x}?; an emoji of a {x}; the {x}
    emoji; <can> [show|send|give] me a {x} emoji?; send me a {x} emoji; do you have a {x} emoji?; which emoji
    is {x}?; draw a {x} emoji
    """, """
    could you send a {x} emoji?; please show me the emoji for {x}; what emoji means {x}?; i want a {x} emoji
    """)
SOME_EMOJI = Phrases("""
    <show> [me |]{n} emoji[|s]; {n} emoji[|s]; <can> [show|send|give] me {n} emoji[|s]?; send me {n}
    emoji[|s]; {n} random emoji[|s]; reply with {n} emoji[|s]; answer with {n} emoji[|s]
    """,
    "could you send {n} emojis?; please show me {n} random emoji; i want {n} emojis")
PHRASE_IN = Phrases("""
    how do you say {p} in {l}?; say {p} in {l}; what is {p} in {l}?; {p} in {l}; {p} in {l}?; translate {p} to
    {l}; how do i say {p} in {l}?; what's the {l} for {p}?; <can> say {p} in {l}?; what does one say for {p}
    in {l}?
    """,
    "could you translate {p} into {l}?; tell me how to say {p} in {l}; what would {p} be in {l}?")
ACCENTS = Phrases("""
    <show> [me |]some [words with accents|accented words|accented text|accents]; words with accents;
    [write|say] something with accents; do you know words with accents?; test accented [text|letters|words];
    can you write accents?; write umlauts; <show> [me |]some [unicode|special characters|umlauts]
    """, """
    could you write some words with accents?; please show me accented letters; i want to see some accents
    """)

ACCENTED = "café, naïve, jalapeño, Zürich, São Paulo, Łódź, smörgåsbord, crème brûlée"


def emoji(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
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


def refusing(rng: random.Random, chat: Chat, part: str) -> Turn:
    kind = rng.random()
    if kind < 0.06:
        letters = rng.choices(ALPHABET + "      ;.,?!", k=rng.randint(3, 14))
        return Turn("honest refusals", "".join(letters).strip() or "?", say(rng, GIBBERISH), [r"tiny"])
    if kind < 0.5:
        question = ask(rng, CANNOT.pick(rng, part), n=operand(rng))
    else:
        question = ask(rng, REFUSE.pick(rng, part), topic=pick(rng, TOPICS, part))
    reply = say(rng, rng.choice(SORRY))
    return Turn("honest refusals", question, reply, [r"tiny", r"can't|don't know|not understand"])


# Skill and how often it is trained on
SKILLS = [
    (small_talk, 9), (identity, 12), (server, 18), (arithmetic, 12), (sums_in_words, 9), (go_on, 5),
    (counting, 12), (spelling, 10), (repeating, 4), (remembering, 14), (facts, 6), (lists, 7), (emoji, 6),
    (refusing, 9),
]

# ------------------------------------------------------------------------------------------------------------
# Conversations


def conversation(rng: random.Random, turns: int) -> list[Turn]:
    """Turns over mixed skills, each of which may come back to what was said before it."""
    chat = Chat()
    skills, weights = zip(*SKILLS)
    written, skill = [], None
    for _ in range(turns):
        topic = chat.topic
        if skill is None or rng.random() < 0.7:
            skill = rng.choices(skills, weights)[0]
        if topic[:1] == ("sum",) and rng.random() < 0.3:
            skill = go_on
        written.append(skill(rng, chat, "train"))
        if chat.topic is topic:
            chat.topic = ()  # the subject has changed
    if rng.random() < 0.04:
        written[0].question = rng.choice(SYSTEMS) + "\n\n" + written[0].question
    return written


# ------------------------------------------------------------------------------------------------------------
# Tokenizer

VOCAB = 1280  # a multiple of 64, so that the embedding has no padding rows
PATTERN = r" ?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
SPECIAL = ["<|bos|>", "<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>",
           "<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>"]
WHOLE_WORDS = 256
SPLIT = re.compile(r" ?[^\W\d_]+|\d{1,2}| ?(?:[^\w\s]|_)+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")  # PATTERN for re


class Tokenizer:
    """What the engine needs of a tokenizer, around the Encoding that is pickled in nanochat's format."""

    def __init__(self, encoding: tiktoken.Encoding):
        self.encoding = encoding
        self.encode = encoding.encode_ordinary
        self.decode = encoding.decode
        self.special = {name: encoding.encode_single_token(name) for name in SPECIAL}


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
    merges += frequent_pairs(pieces, VOCAB - len(SPECIAL) - WHOLE_WORDS - len(merges), set(merges))
    known = set(merges)
    merges += [f" {letter}".encode() for letter in ALPHABET]
    for chunk, _ in sorted(chunks.items(), key=lambda item: (-item[1], item[0])):
        word = chunk.removeprefix(" ")
        tail = word[1:] if word[:1].isupper() else word
        if word[:1].isalpha() and (not tail or tail.encode() in known):
            merges += [step for step in dict.fromkeys((word.encode(), chunk.encode())) if step not in merges]
    del merges[VOCAB - len(SPECIAL) :]
    ranks = {token: rank for rank, token in enumerate(merges)}
    special = {name: len(ranks) + i for i, name in enumerate(SPECIAL)}
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
STEPS = 3200
STEP_TOKENS = 4096
MICRO_TOKENS = 2048  # the share of a thread
LENGTHS = [256] * 14 + [512] * 3 + [1024] * 3  # of a row, drawn for each step
MATRIX_RATE, TABLE_RATE, HEAD_RATE, SCALAR_RATE = 0.016, 0.04, 0.004, 0.007


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
    """bfloat16 but for the handful of scalars: what is trained through, saved and evaluated."""
    return {name: w if "lambda" in name else w.bfloat16() for name, w in weights.items()}


class Muon:
    """Momentum whose update is made nearly orthogonal (Jordan et al. 2024), for the matrices in the layers.

    Matrices of one shape are updated together, as one batch.
    """

    STEPS = [(3.4445, -4.7750, 2.0315)] * 5  # of the Newton-Schulz iteration, coefficients from their article

    def __init__(self, matrices: list[Tensor], momentum: float = 0.95):
        self.momentum = momentum
        by_shape: dict[tuple, list[Tensor]] = {}
        for w in matrices:
            by_shape.setdefault(tuple(w.shape), []).append(w)
        self.groups = [(group, torch.zeros(len(group), *shape)) for shape, group in by_shape.items()]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for group, velocity in self.groups:
            gradient = torch.stack([w.grad for w in group])
            velocity.lerp_(gradient, 1 - self.momentum)
            update = self.orthogonal(gradient.lerp(velocity, self.momentum))
            stretch = max(1.0, update.size(-2) / update.size(-1)) ** 0.5
            for w, u in zip(group, update):
                w.sub_(u, alpha=rate * stretch)

    def orthogonal(self, m: Tensor) -> Tensor:
        tall = m.size(-2) > m.size(-1)
        x = (m.mT if tall else m).bfloat16()
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for a, b, c in self.STEPS:
            square = x @ x.mT
            x = a * x + (b * square + c * square @ square) @ x
        return (x.mT if tall else x).float()


def rows(rng: random.Random, tokenizer: Tokenizer, length: int, count: int) -> tuple[Tensor, Tensor]:
    """count rows of length tokens, one conversation behind the other, and the targets: -1 if not learned."""
    ids, targets = [], []
    for _ in range(count):
        row, own = [], []
        while len(row) <= length:
            turns = rng.randint(1, 6) if length < 1024 or rng.random() < 0.3 else rng.randint(6, 40)
            more, mine = render(tokenizer, conversation(rng, turns))
            row, own = row + more, own + mine
        ids.append(row[:length])
        targets.append([t if o else -1 for t, o in zip(row[1 : length + 1], own[1 : length + 1])])
    return torch.tensor(ids), torch.tensor(targets)


def loss_of(weights: dict[str, Tensor], ids: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy over the tokens that the model itself has to write; the others cost no logits."""
    model = GPT(CONFIG, as_stored(weights))
    learned = targets.flatten() >= 0
    x = model.hidden(ids).flatten(0, 1)[learned]
    return F.cross_entropy(model.logits(x), targets.flatten()[learned])


def gradients(weights: dict[str, Tensor], ids: Tensor, targets: Tensor) -> tuple[float, tuple]:
    loss = loss_of(weights, ids, targets)
    return loss.item(), torch.autograd.grad(loss, list(weights.values()))


def train(seed: int, steps: int, folder: Path, threads: int) -> None:
    """Each thread computes the gradient of one part of the step.

    That loses less than threads within each operation when other programs need the cores too, and the sum
    does not depend on how many threads there are.
    """
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads)
    rng = random.Random(seed)
    began = time.time()
    encoding = train_tokenizer(rng)
    save_tokenizer(encoding, folder)
    tokenizer = Tokenizer(encoding)
    weights = new_weights(torch.Generator().manual_seed(seed))
    print(f"tokenizer: {encoding.n_vocab} tokens, {time.time() - began:.0f} s; model: "
          f"{sum(w.numel() for w in weights.values()):,} parameters; {steps} steps of {STEP_TOKENS} tokens")
    for w in weights.values():
        w.requires_grad_()
    inner = [w for name, w in weights.items() if name.startswith("transformer.h.") and "gate" not in name]
    muon = Muon(inner)
    adam = torch.optim.AdamW([
        {"params": [w for name, w in weights.items() if "wte" in name or "value_embeds" in name],
         "lr": TABLE_RATE},
        {"params": [weights["lm_head.weight"]], "lr": HEAD_RATE},
        {"params": [w for name, w in weights.items() if "lambda" in name or "gate" in name],
         "lr": SCALAR_RATE},
    ], betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0)
    rates = [group["lr"] for group in adam.param_groups]
    average, began = None, time.time()
    for step in range(1, steps + 1):
        share = min(1.0, step / 80, 1.6 * (steps - step + 1) / steps)  # of the full rates: up, level, down
        length, parts = rng.choice(LENGTHS), STEP_TOKENS // MICRO_TOKENS
        batches = [rows(rng, tokenizer, length, MICRO_TOKENS // length) for _ in range(parts)]
        results = list(pool.map(lambda batch: gradients(weights, *batch), batches))
        loss = sum(part for part, _ in results) / parts
        for w, *of_parts in zip(weights.values(), *(grads for _, grads in results)):
            w.grad = sum(of_parts) / parts
        muon.step(MATRIX_RATE * share)
        for group, rate in zip(adam.param_groups, rates):
            group["lr"] = rate * share
        adam.step()
        average = loss if average is None else 0.95 * average + 0.05 * loss
        if step % 20 == 0 or step == steps:
            seconds = time.time() - began
            speed, left = step * STEP_TOKENS / seconds, seconds / step * (steps - step) / 60
            print(f"step {step:5d}/{steps}  loss {average:.4f}  {speed:6.0f} tokens/s  "
                  f"{seconds / 60:5.1f} min, {left:5.1f} left", flush=True)
        if step % 200 == 0 or step == steps:
            save_model(weights, step, average, seed, folder)


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
    torch.save({name: w.detach().clone() for name, w in as_stored(weights).items()},
               target / f"model_{step:06d}.pt")
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

CASES = 100  # of each skill
GREEDY, DEFAULT = dict(temperature=0.0, top_k=0), dict(temperature=0.8, top_k=50)
EVALUATED = [skill for skill, _ in SKILLS]


def load(folder: Path) -> tuple[Engine, Tokenizer, Path]:
    tokenizer = Tokenizer(pickle.loads((folder / "tokenizer" / "tokenizer.pkl").read_bytes()))
    paths = sorted(tag_folder(folder).glob("model_*.pt"))
    if not paths:
        raise SystemExit(f"no model_*.pt in {tag_folder(folder)}: run without --eval first")
    weights = torch.load(paths[-1], weights_only=True)
    model = GPT(CONFIG, {name: w.float() for name, w in weights.items()})
    return Engine(model, tokenizer), tokenizer, paths[-1]


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


def evaluate(folder: Path, cases: int, wrong: int) -> None:
    """Prints the table of the README. `wrong` is how many wrong answers of each skill are shown."""
    engine, tokenizer, path = load(folder)
    right: dict[str, Counter] = {"greedy": Counter(), "default": Counter()}
    asked, tokens, began = Counter(), 0, time.time()
    for skill in EVALUATED:
        rng = random.Random(f"evaluation {EVALUATED.index(skill)}")
        failures = []
        for number in range(cases):
            turns = case(rng, skill)
            last = turns[-1]
            prompt = render(tokenizer, turns[:-1])[0] + render_question(tokenizer, last.question)
            prompt = prompt[-(CONFIG.sequence_len - 256) :]
            asked[last.skill] += 1
            for way, settings in (("greedy", GREEDY), ("default", DEFAULT)):
                reply = list(engine.generate(prompt, 256, seed=number, **settings))
                tokens += len(reply)
                text = visible(tokenizer, reply)
                if is_right(last, text):
                    right[way][last.skill] += 1
                else:
                    failures.append((way, [t.question for t in turns[-2:]], last.reply,
                                     tokenizer.decode(reply)))
        for way, question, expected, got in failures[:wrong]:
            print(f"  wrong ({way}): {question!r}\n    expected {expected!r}\n    got      {got!r}")
    print(f"{path.name}: {tokens / (time.time() - began):.0f} tokens/s one reply at a time\n")
    print("| skill | cases | greedy | temperature 0.8, top-k 50 |\n|---|---|---|---|")
    for skill in asked:
        shares = [f"{100 * right[way][skill] / asked[skill]:.1f} %" for way in right]
        print(f"| {skill} | {asked[skill]} | {' | '.join(shares)} |")
    shares = [f"**{100 * right[way].total() / asked.total():.1f} %**" for way in right]
    print(f"| **overall** | {asked.total()} | {' | '.join(shares)} |\n")
    long_conversations(engine, tokenizer)


def long_conversations(engine: Engine, tokenizer: Tokenizer, chats: int = 10, turns: int = 30) -> None:
    """Conversations at the default settings over held-out questions; the model reads its own replies again.

    As in the server, the oldest turns are dropped where the context would not leave room for the reply.
    """
    ended, right, rng = 0, 0, random.Random("long conversations")
    for _ in range(chats):
        chat, history = Chat(), []
        for _ in range(turns):
            turn = rng.choices(*zip(*SKILLS))[0](rng, chat, "test")
            question = render_question(tokenizer, turn.question)
            while 1 + sum(map(len, history)) + len(question) > CONFIG.sequence_len * 3 // 4:
                history = history[1:]
            prompt = [tokenizer.special["<|bos|>"], *(t for pair in history for t in pair), *question]
            reply = list(engine.generate(prompt, 512, seed=rng.randrange(2**31), **DEFAULT))
            text = visible(tokenizer, reply)
            ended += text is not None
            right += is_right(turn, text)
            history.append(question + reply)
    print(f"{chats} conversations of {turns} turns at the default settings: {ended} of {chats * turns} "
          f"replies kept the chat format and ended by themselves, {right} were right.")


# ------------------------------------------------------------------------------------------------------------
# Command line


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="makes and evaluates the demo model")
    parser.add_argument("--eval", action="store_true", help="only evaluate what is saved")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="only print N conversations")
    parser.add_argument("--wrong", type=int, default=0, metavar="N", help="show N wrong answers a skill")
    parser.add_argument("--cases", type=int, default=CASES, help="questions of each skill in the evaluation")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--seed", type=int, default=1, help="of data, weights and sampling")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the model is written and read")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads for training")
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
        train(args.seed, args.steps, args.folder, args.threads)
    evaluate(args.folder, args.cases, args.wrong)


if __name__ == "__main__":
    main(sys.argv[1:])
