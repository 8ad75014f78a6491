"""Makes images.tsv from the names that the icons' designers gave them. Deterministic; the wheel is read, nothing of it is run.

    python3 -m pip download --no-deps qtawesome==1.4.2
    python3 make_images.py qtawesome-1.4.2-py3-none-any.whl

An icon belongs to the class of the first thing that its name names: the longest run of words at the start of the name that stands in
NOUNS decides (`file-music` is a document, `car-battery` is in nobody's list and is left out). At most CAP icons of a class
and split are kept: those with the lowest sha256 of `font:name`.
"""

import collections
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

FONTS = {  # short name in the card: split, character map, endings of names to leave out
    "mdi": ("train", "materialdesignicons6-webfont-charmap-6.9.96.json", ()),
    "phosphor": ("train", "phosphor-charmap-1.3.0.json", ("-thin", "-light", "-bold", "-duotone")),
    "remix": ("validation", "remixicon-charmap-2.5.0.json", ()),
    "fa-solid": ("test", "fontawesome6-solid-webfont-charmap-6.7.2.json", ()),
    "fa-regular": ("test", "fontawesome6-regular-webfont-charmap-6.7.2.json", ()),
}
# Icons drawn as another one of the same set is, to the pixel.
DUPLICATES = """
    mdi-music-note mdi-truck-plus phosphor-brain-fill phosphor-chart-line-fill phosphor-currency-btc-fill
    phosphor-currency-cny-fill phosphor-currency-dollar-fill phosphor-currency-dollar-simple-fill
    phosphor-currency-eur-fill phosphor-currency-gbp-fill phosphor-currency-inr-fill phosphor-currency-jpy-fill
    phosphor-currency-krw-fill phosphor-currency-rub-fill phosphor-hand-fill phosphor-hand-grabbing-fill
    phosphor-hand-palm-fill phosphor-hand-pointing-fill phosphor-pencil-fill phosphor-rainbow-fill
    phosphor-scissors-fill phosphor-snowflake-fill remix-arrow-drop-left-fill remix-bar-chart-grouped-fill
    remix-plane-fill remix-tornado-fill remix-walk-fill remix-windy-fill
""".split()
CAP = {"train": 180, "validation": 60, "test": 60}

# `-` before a phrase: names that start with it are left out.
NOUNS = {
    "animal": """cat dog horse hippo dove crow fish frog spider otter kiwi-bird dragon bug bugs locust mosquito worm cow shrimp paw
        -mosquito-net bird rabbit elephant donkey duck dolphin jellyfish kangaroo koala ladybug bee bat butterfly owl panda
        penguin pig shark sheep snail snake tortoise turtle turkey unicorn rodent teddy-bear -bug-droid paw-print -bug-check
        -bug-play -bug-pause -bug-stop -fish-off spider-web -spider-web""",
    "arrow": """arrow arrows -arrow-pointer angle-down angle-left angle-right angle-up angles chevron left-long right-long up-long
        down-long left-right up-down up-down-left-right circle-arrow-down circle-arrow-left circle-arrow-right circle-arrow-up
        circle-chevron-down circle-chevron-left circle-chevron-right circle-chevron-up circle-down circle-left circle-right
        circle-up turn-down turn-up right-left rotate rotate-left rotate-right caret -arrow-right-to-city
        -arrow-up-from-ground-water -arrow-up-from-water-pump -arrows-down-to-people -caret-circle -rotate-lock""",
    "building": """house home building buildings bank hospital hotel city church mosque synagogue school store shop storefront warehouse
        factory industry castle office-building landmark place-of-worship gopuram igloo dungeon kaaba torii-gate vihara tent tents
        campground archway monument stadium lighthouse barn silo temple town-hall greenhouse garage domain government ancient-gate
        ancient-pavilion home-city hospital-building hq tower-observation fort -hospital-user hut cabin yurt -store-clock -shop-slash
        -home-thermometer -hotel-bed -home-battery -home-lightning -home-floor -garage-alert -bank-transfer -bank-card""",
    "chart": "chart bar-chart pie-chart line-chart bubble-chart donut-chart finance poll poll-box square-poll-horizontal square-poll-vertical graph",
    "clothing": """shirt t-shirt tshirt shoe shoe-prints socks mitten hat vest glasses sunglasses tie bow-tie hat-cowboy hat-wizard
        helmet-safety helmet-un crown lingerie hanger shoe-heel shoe-sneaker shoe-cleat shoe-ballet necklace handbag purse watch
        ring user-tie-hat safety-goggles hard-hat sunglasses graduation-cap -watch-import -watch-export vip-crown -user-tie-hat
        bag-personal wardrobe -wardrobe -tie-off suitcase briefcase -glasses-off backpack handbag-simple bag-suitcase bag-checked
        bag-carry-on""",
    "device": """laptop desktop computer mobile tablet phone cellphone smartphone television tv monitor keyboard camera printer print
        device-mobile device-tablet device tv-2 mac macbook computer-tower desktop-tower desktop-classic desktop-mac server
        hard-drive harddisk hard-drives calculator fax mouse computer-mouse router webcam radio -phone-missed -mouse-trap sd-card
        sim-card walkie-talkie microchip cpu deskphone headphones headphone headset gamepad game-controller pager memory chip
        projector video-camera camcorder polaroid display usb-flash-drive -tablets -printer-3d -printer-pos -keyboard-tab -keyboard-return
        -keyboard-backspace -keyboard-space -keyboard-esc -keyboard-caps -keyboard-f1 -keyboard-f2 -keyboard-f3 -keyboard-f4 -keyboard-f5 -keyboard-f6 -keyboard-f7 -keyboard-f8 -keyboard-f9 -keyboard-f10 -keyboard-f11 -keyboard-f12 -phone-in-talk -television-guide
        -monitor-dashboard -keyboard-settings""",
    "document": """file files folder folders book books newspaper clipboard notebook note note-sticky sticky-note article notepad paste
        address-book scroll book-open bookshelf script-text text-box newspaper-variant receipt page-next page-previous page-first
        file-document passport journal dossier contacts-book booklet draft bill calendar -file-tree folders pages
        id-card -note-medical -article-medium -article-ny-times""",
    "face": "face emoticon smiley emotion bear-smile -face-mask -face-agent -face-recognition -face-shimmer -face-man-shimmer -face-woman-shimmer",
    "food": """beer beer-mug-empty mug-hot mug-saucer martini-glass martini-glass-citrus martini-glass-empty whiskey-glass wine-bottle
        wine-glass wine-glass-empty champagne-glasses glass-water glass-water-droplet coffee cup tea bottle-water bottle-wine
        bottle-soda glass-cocktail glass-flute glass-mug glass-pint glass-stange glass-tulip glass-wine wine martini brandy goblet
        teapot liquor bottle-tonic kettle shaker liquor -kettle-alert
        apple-whole bacon bowl-food bowl-rice bread-slice burger cake cake-candles candy-cane carrot cheese cookie drumstick-bite
        egg hotdog ice-cream lemon pepper-hot pizza pizza-slice plate-wheat stroopwafel food fruit hamburger chili-mild chili-medium
        chili-hot cupcake corn baguette bread candy candycane muffin mushroom noodles pasta peanut popcorn pretzel pumpkin rice sausage
        taco croissant french-fries ice-pop cherries rice nutrition cheese-off french-fries pot-steam bowl-mix ice-pop barley
        jar -cookie-clock -cookie-lock -cookie-alert -cookie-settings -cookie-cog -cookie-edit""",
    "furniture": """bed bathtub bath chair couch sofa armchair lamp lamps floor-lamp desk desk-lamp table-furniture table-chair
        table-picnic cupboard wardrobe dresser fridge stove dishwasher washing-machine toilet sink shower bunk-bed ceiling-light
        ceiling-fan chandelier door door-open door-closed bathtub kitchen-set rug toaster microwave countertop seat bookshelf
        tumble-dryer curtains blinds window-shutter outdoor-lamp candle candelabra wall-sconce vacuum hotel-bed faucet -bed-pulse -door-lock
        mattress-pillow cradle stool window-open window-closed mirror fireplace""",
    "hand": """hand hands handshake thumbs-up thumbs-down thumb-up thumb-down hand-point-down -hands-bubbles -hand-sanitizer -hand-soap
        -hand-lizard""",
    "medical": """syringe stethoscope pills pill tooth teeth bandage bandaids capsules hospital-box kit-medical medical-bag briefcase-medical
        suitcase-medical prescription-bottle lungs -thermometer microscope dna virus viruses virus-covid bacteria bacterium vial vials
        heart-pulse heartbeat x-ray first-aid-kit crutch stomach brain doctor medication medicine-bottle test-tube tablets -joint bone
        mortar-pestle surgical-mask face-mask mask-face infrared-thermometer ambulance iv-bag needle
        skull-crossbones head-side-mask head-side-cough allergy blood-bag lotion tooth-outline capsule diabetes pump-medical wheelchair
        -ambulance -head-side-cough""",
    "message": """chat chats comment comments message envelope envelopes email mail forum chat-1 tooltip email-open envelope-open mailbox
        inbox feedback -email-newsletter -chat-sleep -send-to -send-backward paper-plane send send-plane""",
    "money": """cash coin coins currency money dollar-sign euro-sign yen-sign credit-card wallet piggy-bank bank-card sack-dollar
        cash-register bitcoin-sign bitcoin sterling-sign cent-sign hand-coin money-bill money-check indian-rupee-sign won-sign ruble-sign
        peso-sign rupee-sign baht-sign lira-sign turkish-lira-sign franc-sign shekel-sign copper-coin bit-coin exchange-dollar
        exchange-cny hand-holding-dollar circle-dollar-to-slot file-invoice-dollar safe vault -currency-sign -bitcoin-off
        -money-bill-wheat -hand-holding-dollar -file-invoice-dollar""",
    "sound": """music guitar drum piano violin saxophone trumpet microphone speaker record-vinyl album compact-disc disc volume music-note
        music-notes bugle metronome playlist-music instrument-triangle guitar-acoustic guitar-electric cassette mic headphones-box
        drum-steelpan bell bullhorn megaphone amplifier -bell-concierge boombox speaker-high radio-tower -radio-tower -volume-vibrate
        soundbar -microphone-message whistle -music-accidental -music-clef""",
    "person": """user users person people child children account human face-man face-woman baby -baby-carriage -baby-bottle group
        -group-arrows-rotate team women men parent walk run nurse wheelchair-accessibility street-view human-male human-female
        account-group restroom person-simple student crowd -account-cash -account-credit -account-box-multiple hiking yoga
        -face-man -face-woman -baby-buggy robber ninja pirate wizard -users-viewfinder -person-booth -person-shelter""",
    "plant": """tree leaf seedling flower cactus clover plant-wilt wheat-awn sprout palm-tree pine-tree forest grass holly-berry spa
        plant maple-leaf corn cannabis seed flower-lotus flower-tulip flower-poppy fruit-grapes -tree-structure mushroom forest
        -corn barley -mushroom -barley bamboo -seed-plus -leaf-circle -tree-city clover nature""",
    "game": """baseball basketball football soccer volleyball tennis golf golf-ball-tee hockey-puck bowling-ball dumbbell table-tennis
        table-tennis-paddle-ball futbol chess dice billiards badminton boxing barbell soccer-ball tennis-ball trophy medal award
        baseball-bat-ball cards-playing cards ping-pong racquetball cricket rugby skateboard ski kettlebell hockey-sticks
        weight-lifter pool puzzle puzzle-piece poker-chip bow-arrow curling karate roller-skate rollerblade slot-machine dart
        bullseye gymnastics kabaddi polo -pool -cards-heart -cards-diamond -cards-club -cards-spade -golf-cart -cards-variant checkerboard ranking-star -bullseye""",
    "time": """clock hourglass stopwatch alarm timer time timer-sand clock-outline watch-variant bell-clock -alarm-light -alarm-panel
        -alarm-bell -alarm-warning -time-to-leave""",
    "tool": """hammer wrench screwdriver scissors ruler paintbrush paint-brush paint-roller brush broom pen pencil axe saw pliers trowel
        toolbox screw nail shovel rake pickaxe spray-can highlighter eraser knife sword -tape hammer-wrench hand-saw hand-shears
        format-paint screwdriver-wrench pen-nib bucket paint-bucket quill-pen mark-pen ball-pen ladder drill saw-blade pitchfork sickle
        tools -hammer-sickle crane compass-drafting swiss-army tape-measure sword-cross content-cut box-cutter squeegee fire-extinguisher
        -pencil-lock -crane tools fountain-pen lead-pencil -paintbrush-fine pushpin thumbtack push-pin -ruler-square-compass""",
    "vehicle": """car car-side bus train truck plane bicycle motorcycle motorbike ship boat rocket helicopter tractor ferry sailboat taxi van-shuttle
        cable-car caravan shuttle-space jet-fighter sleigh snowplow trailer bike airplane ambulance tram subway van-passenger
        van-utility submarine moped scooter scooter-electric sail-boat tank forklift bulldozer excavator gondola rickshaw rv-truck
        hot-air-balloon airballoon airplane-takeoff jeep police-car roadster train-car rocket-launch space-ship e-bike racing-helmet
        -racing-helmet unicycle quadcopter hydro-power -hydro-power fire-truck dump-truck tow-truck golf-cart ufo baby-carriage
        -car-battery -car-tire -car-brake -car-key -car-light -car-door -car-seat -car-shift -car-turbocharger -car-coolant -car-clutch
        -car-cruise -car-defrost -car-esp -car-traction -car-speed -car-windshield -car-parking -car-child -car-tunnel -bus-stop
        -truck-ramp-box -helicopter-symbol -airplane-clock -car-wireless""",
    "weather": """sun moon cloud cloud-rain snowflake umbrella rainbow tornado hurricane wind weather cloud-sun cloud-moon cloudy rainy snowy
        windy foggy thunderstorms smog bolt bolt-lightning lightning drizzle hail haze heavy-showers showers mist moonlight typhoon
        icicles snowman white-balance-sunny lightning-bolt cloud-fog cloud-snow
        -cloud-meatball -umbrella-beach -cloud-braces -cloud-tags -cloud-print -cloud-search -cloud-lock -cloud-key -cloud-download
        -cloud-upload -cloud-sync -cloud-refresh -cloud-check -cloud-alert -cloud-question -cloud-cancel -cloud-off -cloud-arrow
        -cloud-percent -bolt-circle -wind-turbine -wind-power -moon-waning -cloud-slash""",
}


def table():
    words = {}
    for label, phrases in NOUNS.items():
        for phrase in phrases.split():
            key, value = (phrase[1:], None) if phrase.startswith("-") else (phrase, label)
            if words.get(key) is None or value is None:
                words[key] = value
    return words


def main():
    wheel = zipfile.ZipFile(sys.argv[1])
    words = table()
    kept = collections.defaultdict(list)
    for font, (split, charmap, endings) in FONTS.items():
        seen = set()
        for name, point in sorted(json.loads(wheel.read(f"qtawesome/fonts/{charmap}")).items()):
            if name.endswith(endings) or not re.fullmatch("[a-z0-9-]+", name):
                continue
            parts = name.split("-")
            runs = ("-".join(parts[:n]) for n in range(len(parts), 0, -1))
            run = next((run for run in runs if run in words), None)
            label = words.get(run)
            point = int(point, 16)
            if label and point not in seen and f"{font}-{name}" not in DUPLICATES:
                seen.add(point)
                order = hashlib.sha256(f"{font}:{name}".encode()).hexdigest()
                kept[split, label].append((order, font, name, point))
    rows = []
    for (split, label), icons in kept.items():
        rows += [(split, label, f"{font}-{name}", font, f"{point:x}") for _, font, name, point in sorted(icons)[: CAP[split]]]
    order = ["train", "validation", "test"]
    rows.sort(key=lambda row: (order.index(row[0]), row[1:]))
    text = "split\tlabel\tname\tfile\tglyph\n" + "".join("\t".join(row) + "\n" for row in rows)
    (Path(__file__).resolve().parent / "images.tsv").write_text(text)
    counts = collections.Counter((row[1], row[0]) for row in rows)
    for label in sorted(NOUNS):
        print(f"| `{label}` | " + " | ".join(str(counts[label, split]) for split in order) + " |")
    print("| all | " + " | ".join(str(sum(row[0] == split for row in rows)) for split in order) + " |")


if __name__ == "__main__":
    main()
