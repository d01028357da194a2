"""The words of the grammar corpus, as tables. The first entries of a class are the most frequent.

A German entry may offer several variants, separated by ``/``. Numbers ``a:b`` behind a variant are
its weights in informal and in formal language; a lone variant needs none.
"""

# English singular and plural | German singular, gender, plural. A ~ marks weak masculine nouns,
# which take the plural's form in every case but the nominative.
NOUNS = {
    "person": """
        man men | mann m männer
        woman women | frau f frauen 8:6 / dame f damen 2:4
        child children | kind n kinder
        friend friends | freund m freunde 8:5 / bekannte m~ bekannten 2:5
        teacher teachers | lehrer m lehrer 8:4 / lehrkraft f lehrkräfte 2:6
        boy boys | junge m~ jungen 8:3 / knabe m~ knaben 2:7
        girl girls | mädchen n mädchen
        neighbour neighbours | nachbar m~ nachbarn 9:5 / anwohner m anwohner 1:5
        brother brothers | bruder m brüder
        sister sisters | schwester f schwestern
        doctor doctors | arzt m ärzte 6:5 / doktor m doktoren 4:1 / mediziner m mediziner 1:4
        student students | student m~ studenten
        mother mothers | mutter f mütter
        father fathers | vater m väter
        policeman policemen | polizist m~ polizisten 8:3 / beamte m~ beamten 2:7
        guest guests | gast m gäste 7:5 / besucher m besucher 3:5
        farmer farmers | bauer m~ bauern 8:3 / landwirt m landwirte 2:7
        singer singers | sänger m sänger
        boss bosses | chef m chefs 9:2 / leiter m leiter 1:8
        colleague colleagues | kollege m~ kollegen 8:6 / mitarbeiter m mitarbeiter 2:4
        driver drivers | fahrer m fahrer
        customer customers | kunde m~ kunden 8:5 / käufer m käufer 2:5
        writer writers | schriftsteller m schriftsteller 3:6 / autor m autoren 7:4
        grandmother grandmothers | oma f omas 9:1 / großmutter f großmütter 1:9
        grandfather grandfathers | opa m opas 9:1 / großvater m großväter 1:9
        cook cooks | koch m köche
        lawyer lawyers | anwalt m anwälte 8:4 / jurist m~ juristen 2:6
    """,
    "animal": """
        dog dogs | hund m hunde
        cat cats | katze f katzen 8:8 / kater m kater 2:2
        horse horses | pferd n pferde 9:6 / ross n rosse 1:4
        bird birds | vogel m vögel
        cow cows | kuh f kühe
        mouse mice | maus f mäuse
        pig pigs | schwein n schweine
        fish fishes | fisch m fische
        bear bears | bär m~ bären
    """,
    "thing": """
        car cars | auto n autos 9:2 / wagen m wagen 1:8
        house houses | haus n häuser 8:5 / gebäude n gebäude 2:5
        door doors | tür f türen
        table tables | tisch m tische
        picture pictures | bild n bilder 8:5 / gemälde n gemälde 2:5
        bicycle bicycles | rad n räder 8:1 / fahrrad n fahrräder 2:9
        key keys | schlüssel m schlüssel
        phone phones | handy n handys 8:2 / telefon n telefone 2:8
        window windows | fenster n fenster
        bag bags | tasche f taschen
        chair chairs | stuhl m stühle 8:5 / sessel m sessel 2:5
        computer computers | computer m computer 7:4 / rechner m rechner 3:6
        lamp lamps | lampe f lampen 8:5 / leuchte f leuchten 2:5
        ship ships | schiff n schiffe
        clock clocks | uhr f uhren
        coat coats | mantel m mäntel 6:8 / jacke f jacken 4:2
        hat hats | hut m hüte
        present presents | geschenk n geschenke 9:5 / gabe f gaben 1:5
        flower flowers | blume f blumen
        knife knives | messer n messer
        box boxes | kiste f kisten 6:3 / schachtel f schachteln 4:7
        machine machines | maschine f maschinen 8:4 / gerät n geräte 2:6
        ticket tickets | karte f karten 7:4 / ticket n tickets 3:2
        camera cameras | kamera f kameras
        bottle bottles | flasche f flaschen
        shirt shirts | hemd n hemden
    """,
    "text": """
        book books | buch n bücher 9:6 / werk n werke 1:4
        letter letters | brief m briefe 9:5 / schreiben n schreiben 1:5
        newspaper newspapers | zeitung f zeitungen
        story stories | geschichte f geschichten 8:4 / erzählung f erzählungen 2:6
        poem poems | gedicht n gedichte
        report reports | bericht m berichte
        message messages | nachricht f nachrichten 8:5 / mitteilung f mitteilungen 2:5
    """,
    "food": """
        bread breads | brot n brote
        apple apples | apfel m äpfel
        soup soups | suppe f suppen
        cake cakes | kuchen m kuchen 8:5 / torte f torten 2:5
        egg eggs | ei n eier
        meal meals | essen n essen 8:3 / mahlzeit f mahlzeiten 2:7
        sandwich sandwiches | brötchen n brötchen
        potato potatoes | kartoffel f kartoffeln
    """,
    "place": """
        garden gardens | garten m gärten
        city cities | stadt f städte
        school schools | schule f schulen
        kitchen kitchens | küche f küchen
        park parks | park m parks
        village villages | dorf n dörfer
        office offices | büro n büros
        forest forests | wald m wälder
        shop shops | laden m läden 8:2 / geschäft n geschäfte 2:8
        hotel hotels | hotel n hotels
        restaurant restaurants | restaurant n restaurants 6:6 / lokal n lokale 4:4
        museum museums | museum n museen
        church churches | kirche f kirchen
        station stations | bahnhof m bahnhöfe
        library libraries | bibliothek f bibliotheken 3:8 / bücherei f büchereien 7:2
        market markets | markt m märkte
        hospital hospitals | krankenhaus n krankenhäuser 8:4 / klinik f kliniken 2:6
    """,
}

NAMES = "anna peter maria thomas julia paul lena max clara jonas eva felix"

# English | German stems, as they stand before an ending; = gives the form without one.
ADJECTIVES = """
    old | alt
    small | klein
    big | groß
    new | neu
    young | jung
    beautiful | schön 8:5 / hübsch 2:5
    good | gut
    friendly | nett 8:2 / freundlich 2:8
    expensive | teur=teuer 9:4 / kostspielig 1:6
    clever | schlau 8:2 / klug 2:8
    strange | komisch 8:1 / seltsam 2:5 / merkwürdig 1:4
    red | rot
    cheap | billig 8:2 / günstig 2:8
    tired | müd=müde
    famous | berühmt 7:5 / bekannt 3:5
    black | schwarz
    white | weiß
    quiet | ruhig 6:4 / still 4:6
    heavy | schwer
    broken | kaputt 9:1 / defekt 1:9
    rich | reich 8:4 / wohlhabend 2:6
    poor | arm
    blue | blau
    funny | lustig 8:4 / amüsant 2:6
    important | wichtig 8:5 / bedeutend 2:5
    long | lang
    short | kurz
    dirty | dreckig 8:1 / schmutzig 2:9
    clean | sauber
    angry | sauer=sauer 0:0 / wütend 8:4 / zornig 2:6
    sad | traurig 8:6 / betrübt 2:4
    happy | froh 6:3 / glücklich 4:7
    sick | krank
    warm | warm
    cold | kalt
    green | grün
    strong | stark 7:5 / kräftig 3:5
    modern | modern
    lazy | faul
    hungry | hungrig
"""

# English base, third person, past | German infinitive, or infinitive, third person, preterite
# and participle of strong verbs. + closes a separable prefix; sein is the perfect's auxiliary;
# dat is the object's case.
VERBS = {
    "any": """
        see sees saw | sehen sieht sah gesehen 8:4 / er|blicken 1:3
        love loves loved | lieben
        look_for looks_for looked_for | suchen
        find finds found | finden findet fand gefunden 8:5 / ent|decken 2:5
        need needs needed | brauchen 9:2 / be|nötigen 1:8
        watch watches watched | an+schauen 8:2 / be|trachten 2:8
        hear hears heard | hören
        like likes liked | mögen mag mochte gemocht 8:5 / schätzen 2:5
        paint paints painted | malen
        forget forgets forgot | ver|gessen vergisst vergaß vergessen
        draw draws drew | zeichnen
    """,
    "thing": """
        buy buys bought | kaufen 9:3 / er|werben erwirbt erwarb erworben 1:7
        bring brings brought | mit+bringen bringt brachte gebracht
        sell sells sold | ver|kaufen 9:6 / ver|äußern 1:4
        open opens opened | auf+machen 9:1 / öffnen 1:9
        close closes closed | zu+machen 9:1 / schließen schließt schloss geschlossen 1:9
        repair repairs repaired | reparieren
        lose loses lost | ver|lieren verliert verlor verloren
        clean cleans cleaned | putzen 8:2 / reinigen 2:8
        take_along takes_along took_along | mit+nehmen nimmt nahm genommen
        get gets got | kriegen 8:0 / be|kommen bekommt bekam bekommen 2:5 / er|halten 0:0 / empfangen 0:0
        choose chooses chose | aus+suchen 8:2 / aus+wählen 2:8
        carry carries carried | tragen trägt trug getragen
        use uses used | be|nutzen 7:3 / ver|wenden 3:7
        steal steals stole | klauen 8:1 / stehlen stiehlt stahl gestohlen 2:9
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
        greet greets greeted | be|grüßen 5:7 / grüßen 5:3
        understand understands understood | ver|stehen versteht verstand verstanden
        believe believes believed | glauben dat 8:4 / ver|trauen dat 2:6
        pick_up picks_up picked_up | ab+holen
        miss misses missed | ver|missen
        follow follows followed | folgen dat sein
    """,
    "text": """
        read reads read | lesen liest las gelesen
        write writes wrote | schreiben schreibt schrieb geschrieben 8:5 / ver|fassen 2:5
        read_aloud reads_aloud read_aloud | vor+lesen liest las gelesen
        translate translates translated | über|setzen
    """,
    "food": """
        eat eats ate | essen isst aß gegessen 9:4 / ver|zehren 1:6
        cook cooks cooked | kochen 8:5 / zu+be|reiten 2:5
        order orders ordered | be|stellen
        try tries tried | pro|bieren 8:2 / kosten 2:8
    """,
    "give": """
        give gives gave | geben gibt gab gegeben 8:4 / über|reichen 2:6
        show shows showed | zeigen
        send sends sent | schicken 8:2 / senden sendet sandte gesandt 2:8
        sell sells sold | ver|kaufen
        explain explains explained | er|klären 8:5 / er|läutern 2:5
    """,
    "none": """
        sleep sleeps slept | schlafen schläft schlief geschlafen
        work works worked | arbeiten
        laugh laughs laughed | lachen
        sing sings sang | singen singt sang gesungen
        wait waits waited | warten
        cry cries cried | weinen 8:8 / heulen 2:0
        stay stays stayed | bleiben bleibt blieb geblieben sein
        play plays played | spielen
        talk talks talked | reden 7:3 / sprechen spricht sprach gesprochen 3:7
        begin begins began | an+fangen fängt fing gefangen 8:2 / be|ginnen beginnt begann begonnen 2:8
        dance dances danced | tanzen
        leave leaves left | weg+gehen geht ging gegangen sein 7:2 / ab+reisen sein 3:8
        fall_asleep falls_asleep fell_asleep | ein+schlafen schläft schlief geschlafen sein
        get_up gets_up got_up | auf+stehen steht stand gestanden sein
        arrive arrives arrived | an+kommen kommt kam gekommen sein 8:4 / ein+treffen trifft traf getroffen sein 2:6
    """,
    "move": """
        go goes went | gehen geht ging gegangen sein
        drive drives drove | fahren fährt fuhr gefahren sein
        run runs ran | rennen rennt rannte gerannt sein 6:3 / laufen läuft lief gelaufen sein 4:7
        come comes came | kommen kommt kam gekommen sein
        return returns returned | zurück+kommen kommt kam gekommen sein 8:3 / zurück+kehren sein 2:7
    """,
    "that": """
        say says said | sagen 9:5 / er|klären 1:5
        think thinks thought | denken denkt dachte gedacht 6:3 / meinen 4:7
        hope hopes hoped | hoffen
        hear hears heard | hören 8:4 / er|fahren erfährt erfuhr erfahren 2:6
        see sees saw | sehen sieht sah gesehen 8:4 / be|merken 2:6
        write writes wrote | schreiben schreibt schrieb geschrieben
    """,
}

# Third-person forms that do not follow from the infinitive are given above; these verbs are
# irregular in the first person, too.
FIRST_PERSON = {"mögen": "mag"}

TIMES = {
    "present": """
        today | heute
        now | jetzt 9:4 / nun 1:6
        every_day | jeden tag 7:3 / täglich 3:7
        on_monday | am montag
        in_the_evening | abends 6:3 / am abend 4:7
        in_summer | im sommer
    """,
    "past": """
        yesterday | gestern
        last_week | letzte woche 8:4 / vergangene woche 2:6
        this_morning | heute früh 6:3 / heute morgen 4:7
        on_sunday | am sonntag
        last_year | letztes jahr 8:4 / voriges jahr 2:6
        in_winter | im winter
        two_days_ago | vor zwei tagen
    """,
    "future": """
        tomorrow | morgen
        soon | bald 8:5 / demnächst 2:5
        next_week | nächste woche 7:4 / kommende woche 3:6
        tonight | heute abend
        on_friday | am freitag
        immediately | gleich 7:2 / sofort 3:8
    """,
}

FREQUENCIES = """
    often | oft 8:3 / häufig 2:7
    always | immer 9:5 / stets 1:5
    sometimes | manchmal 8:5 / gelegentlich 2:5
    rarely | selten
    also | auch 8:7 / ebenfalls 2:3
"""

MODALS = """
    can | können kann 1:1
    should | sollen soll 1:1
    must | müssen muss 1:1
    may | dürfen darf 1:1
"""

CONJUNCTIONS = """
    because | weil 9:4 / da 1:6
    although | obwohl 8:6 / obgleich 2:4
    if | wenn 8:5 / falls 2:5
    before | bevor 9:5 / ehe 1:5
    while | während
"""

QUESTION_WORDS = """
    why | warum 8:5 / weshalb 2:5
    when | wann
    where | wo
"""

NUMBERS = "two:zwei three:drei four:vier five:fünf six:sechs seven:sieben eight:acht ten:zehn"
