"""The words of the grammar corpus, in tables for people to edit; ``entries`` parses them.

Each line has the English forms left of the bar and the German variants, separated by ``/``, right
of it. ``a:b`` after a variant gives its weights in informal and in formal language. The first
lines of a class are its most frequent words (Zipf's law); ``_`` joins the words of one form.
"""

# English singular, plural | German singular, gender, plural. A ~ marks weak masculine nouns,
# whose singular is like the plural in every case but the nominative.
NOUNS = {
    "person": """
        man men | mann m männer
        woman women | frau f frauen 8:5 / dame f damen 2:5
        child children | kind n kinder
        friend friends | freund m freunde 6:9 / kumpel m kumpel 4:1
        teacher teachers | lehrer m lehrer 8:4 / lehrkraft f lehrkräfte 2:6
        boy boys | junge m~ jungen 8:3 / knabe m~ knaben 2:7
        girl girls | mädchen n mädchen
        neighbour neighbours | nachbar m~ nachbarn
        brother brothers | bruder m brüder
        sister sisters | schwester f schwestern
        doctor doctors | arzt m ärzte 8:5 / mediziner m mediziner 2:5
        student students | student m~ studenten
        mother mothers | mutter f mütter
        father fathers | vater m väter
        policeman policemen | polizist m~ polizisten
        guest guests | gast m gäste 8:4 / besucher m besucher 2:6
        farmer farmers | bauer m~ bauern 8:3 / landwirt m landwirte 2:7
        boss bosses | chef m chefs 9:2 / leiter m leiter 1:8
        colleague colleagues | kollege m~ kollegen 8:5 / mitarbeiter m mitarbeiter 2:5
        grandmother grandmothers | oma f omas 9:1 / großmutter f großmütter 1:9
        grandfather grandfathers | opa m opas 9:1 / großvater m großväter 1:9
        singer singers | sänger m sänger
        driver drivers | fahrer m fahrer
        cook cooks | koch m köche
        writer writers | autor m autoren 7:4 / schriftsteller m schriftsteller 3:6
        uncle uncles | onkel m onkel
        aunt aunts | tante f tanten
    """,
    "animal": """
        dog dogs | hund m hunde
        cat cats | katze f katzen 6:8 / kater m kater 4:2
        horse horses | pferd n pferde 8:5 / ross n rosse 2:5
        bird birds | vogel m vögel
        cow cows | kuh f kühe
        bear bears | bär m~ bären
        mouse mice | maus f mäuse
    """,
    "thing": """
        car cars | auto n autos 9:2 / wagen m wagen 1:8
        house houses | haus n häuser 8:4 / gebäude n gebäude 2:6
        picture pictures | bild n bilder 8:4 / gemälde n gemälde 2:6
        door doors | tür f türen
        bicycle bicycles | rad n räder 8:1 / fahrrad n fahrräder 2:9
        phone phones | handy n handys 8:2 / telefon n telefone 2:8
        table tables | tisch m tische
        bag bags | tasche f taschen
        chair chairs | stuhl m stühle
        computer computers | computer m computer 7:4 / rechner m rechner 3:6
        lamp lamps | lampe f lampen 8:3 / leuchte f leuchten 2:7
        present presents | geschenk n geschenke 9:4 / gabe f gaben 1:6
        box boxes | kiste f kisten 7:3 / schachtel f schachteln 3:7
        key keys | schlüssel m schlüssel
        window windows | fenster n fenster
        machine machines | maschine f maschinen 7:3 / gerät n geräte 3:7
        ship ships | schiff n schiffe
        clock clocks | uhr f uhren
        bottle bottles | flasche f flaschen
        flower flowers | blume f blumen
        hat hats | hut m hüte
        shirt shirts | hemd n hemden
        coat coats | mantel m mäntel
    """,
    "text": """
        book books | buch n bücher 9:5 / werk n werke 1:5
        letter letters | brief m briefe 8:3 / schreiben n schreiben 2:7
        newspaper newspapers | zeitung f zeitungen
        story stories | geschichte f geschichten 8:4 / erzählung f erzählungen 2:6
        message messages | nachricht f nachrichten 8:3 / mitteilung f mitteilungen 2:7
        report reports | bericht m berichte
        poem poems | gedicht n gedichte
    """,
    "food": """
        sausage sausages | wurst f würste
        apple apples | apfel m äpfel
        cake cakes | kuchen m kuchen 8:4 / torte f torten 2:6
        soup soups | suppe f suppen
        meal meals | essen n essen 8:2 / mahlzeit f mahlzeiten 2:8
        egg eggs | ei n eier
        potato potatoes | kartoffel f kartoffeln
    """,
    "place": """
        city cities | stadt f städte
        garden gardens | garten m gärten
        school schools | schule f schulen
        park parks | park m parks
        kitchen kitchens | küche f küchen
        office offices | büro n büros
        village villages | dorf n dörfer
        shop shops | laden m läden 8:2 / geschäft n geschäfte 2:8
        restaurant restaurants | restaurant n restaurants 4:7 / lokal n lokale 6:3
        church churches | kirche f kirchen
        library libraries | bücherei f büchereien 7:2 / bibliothek f bibliotheken 3:8
        hospital hospitals | krankenhaus n krankenhäuser 8:4 / klinik f kliniken 2:6
        hotel hotels | hotel n hotels
        museum museums | museum n museen
        forest forests | wald m wälder
        factory factories | fabrik f fabriken
    """,
}

NAMES = "anna peter maria thomas julia paul lena max"

# English | German stems, as they stand before an ending; = gives the form without one.
ADJECTIVES = {
    "all": """
        old | alt
        small | klein
        big | groß
        beautiful | schön 8:5 / hübsch 2:5
        good | gut
        strange | komisch 8:2 / seltsam 2:8
    """,
    "being": """
        young | jung
        friendly | nett 8:2 / freundlich 2:8
        clever | schlau 8:2 / klug 2:8
        tired | müd=müde
        famous | berühmt 7:5 / bekannt 3:5
        rich | reich 8:4 / wohlhabend 2:6
        sad | traurig 8:4 / betrübt 2:6
        happy | froh 7:3 / glücklich 3:7
        angry | saur=sauer 7:1 / wütend 3:9
        sick | krank
        lazy | faul
    """,
    "thing": """
        new | neu
        expensive | teur=teuer 9:4 / kostspielig 1:6
        red | rot
        cheap | billig 8:2 / günstig 2:8
        black | schwarz
        broken | kaputt 9:2 / defekt 1:8
        important | wichtig 8:4 / bedeutend 2:6
        dirty | dreckig 8:1 / schmutzig 2:9
        green | grün
        heavy | schwer
    """,
}

# English base, third person, past | German infinitive, then of strong verbs the third person, the
# preterite and the participle without a separable prefix. + closes a separable prefix and | an
# inseparable one; sein is the auxiliary of the perfect; dat is the case of the object.
VERBS = {
    "any": """
        see sees saw | sehen sieht sah gesehen 8:4 / er|blicken 2:6
        love loves loved | lieben
        look_for looks_for looked_for | suchen
        find finds found | finden findet fand gefunden 8:4 / ent|decken 2:6
        need needs needed | brauchen 9:2 / be|nötigen 1:8
        watch watches watched | an+schauen 8:2 / be|trachten 2:8
        hear hears heard | hören
        paint paints painted | malen
        draw draws drew | zeichnen
    """,
    "thing": """
        buy buys bought | kaufen 9:3 / er|werben erwirbt erwarb erworben 1:7
        sell sells sold | ver|kaufen 8:5 / ver|äußern 2:5
        bring brings brought | mit+bringen bringt brachte gebracht
        repair repairs repaired | reparieren 8:5 / instand+setzen 2:5
        clean cleans cleaned | putzen 8:2 / reinigen 2:8
        open opens opened | auf+machen 9:2 / öffnen 1:8
        close closes closed | zu+machen 9:2 / schließen schließt schloss geschlossen 1:8
        use uses used | be|nutzen 7:3 / ver|wenden 3:7
        carry carries carried | tragen trägt trug getragen
        lose loses lost | ver|lieren verliert verlor verloren
    """,
    "person": """
        help helps helped | helfen hilft half geholfen dat 8:4 / unter|stützen 2:6
        visit visits visited | be|suchen
        ask asks asked | fragen
        know knows knew | kennen kennt kannte gekannt
        meet meets met | treffen trifft traf getroffen 8:4 / be|gegnen dat sein 2:6
        thank thanks thanked | danken dat
        invite invites invited | ein+laden lädt lud geladen
        call calls called | an+rufen ruft rief gerufen
        understand understands understood | ver|stehen versteht verstand verstanden
        follow follows followed | folgen dat sein
        greet greets greeted | grüßen 7:2 / be|grüßen 3:8
    """,
    "text": """
        read reads read | lesen liest las gelesen
        write writes wrote | schreiben schreibt schrieb geschrieben 8:4 / ver|fassen 2:6
        translate translates translated | über|setzen
    """,
    "food": """
        eat eats ate | essen isst aß gegessen 9:4 / ver|zehren 1:6
        cook cooks cooked | kochen 8:4 / zu+be|reiten 2:6
        order orders ordered | be|stellen
    """,
    "give": """
        give gives gave | geben gibt gab gegeben 8:4 / über|reichen 2:6
        show shows showed | zeigen
        send sends sent | schicken 8:2 / senden sendet sandte gesandt 2:8
        lend lends lent | borgen 6:2 / leihen leiht lieh geliehen 4:8
    """,
    "rest": """
        sleep sleeps slept | schlafen schläft schlief geschlafen
    """,
    "none": """
        work works worked | arbeiten
        laugh laughs laughed | lachen
        sing sings sang | singen singt sang gesungen
        wait waits waited | warten
        play plays played | spielen
        begin begins began | an+fangen fängt fing gefangen 8:2
                             / be|ginnen beginnt begann begonnen 2:8
        dance dances danced | tanzen
        cry cries cried | weinen
        arrive arrives arrived | an+kommen kommt kam gekommen sein 8:4
                               / ein+treffen trifft traf getroffen sein 2:6
    """,
    "move": """
        go goes went | gehen geht ging gegangen sein
        drive drives drove | fahren fährt fuhr gefahren sein
        run runs ran | rennen rennt rannte gerannt sein 7:3 / laufen läuft lief gelaufen sein 3:7
        return returns returned | zurück+kommen kommt kam gekommen sein 8:3
                               / zurück+kehren sein 2:7
    """,
    "that": """
        say says said | sagen 9:4 / er|klären 1:6
        think thinks thought | denken denkt dachte gedacht 6:3 / meinen 4:7
        hope hopes hoped | hoffen
        hear hears heard | hören 8:3 / er|fahren erfährt erfuhr erfahren 2:7
    """,
}

# English | German third person singular and plural.
MODALS = """
    can | kann können
    should | soll sollen
    must | muss müssen
    may | darf dürfen
"""
WANT = "want | will wollen 8:3 / möchte möchten 2:7"

TIMES = {
    "present": """
        today | heute
        now | jetzt 9:4 / nun 1:6
        every_day | jeden tag 7:2 / täglich 3:8
        in_the_evening | abends 7:3 / am abend 3:7
        on_monday | am montag
        in_summer | im sommer
    """,
    "past": """
        yesterday | gestern
        last_week | letzte woche 8:3 / vergangene woche 2:7
        this_morning | heute früh 7:3 / heute morgen 3:7
        on_sunday | am sonntag
        last_year | letztes jahr 8:3 / voriges jahr 2:7
        two_days_ago | vor zwei tagen
    """,
    "future": """
        tomorrow | morgen
        soon | bald 8:4 / demnächst 2:6
        next_week | nächste woche 7:3 / kommende woche 3:7
        on_friday | am freitag
    """,
}

FREQUENCIES = """
    often | oft 8:3 / häufig 2:7
    always | immer 9:4 / stets 1:6
    sometimes | manchmal 8:4 / gelegentlich 2:6
    also | auch 8:4 / ebenfalls 2:6
"""

CONJUNCTIONS = """
    because | weil 9:4 / da 1:6
    although | obwohl 8:5 / obgleich 2:5
    if | wenn 8:4 / falls 2:6
    before | bevor 9:4 / ehe 1:6
    while | während
"""

QUESTION_WORDS = """
    why | warum 8:3 / weshalb 2:7
    when | wann
    where | wo
"""

NUMBERS = """
    two | zwei
    three | drei
    four | vier
    five | fünf
    ten | zehn
"""
