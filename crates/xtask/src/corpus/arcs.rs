//! The arcs of the corpus's stories: what can happen to a hero.
//!
//! Owns data only. Slots that every arc may use: `hero`, `kind`, `he`, `him`, `his`, `himself`, `trait`
//! (with field 1: how the hero acts), `friend` (a name or "the owl"), `friendi` (its introduction), `fkind`,
//! `fhe`, `fhim`, `fhis`, `place` (field 1: as a thing), `weather`, `elder`.

/// One course of events.
pub struct Arc {
    /// What a request may call the story: "about sharing".
    pub themes: &'static [&'static str],
    /// Slots drawn from word tables before the telling: (slot, table).
    pub draws: &'static [(&'static str, &'static str)],
    /// The beats in order, each a choice of templates.
    pub beats: &'static [&'static [&'static str]],
    /// Questions about what happened, with their answers.
    pub asks: &'static [(&'static str, &'static str)],
    /// What the hero learned, after "learned that".
    pub lesson: &'static [&'static str],
}

/// Every arc.
pub const ARCS: &[Arc] = &[
    Arc {
        themes: &["something lost", "losing something", "finding a {thing}", "a lost {thing}", "looking for something"],
        draws: &[("thing", "thing"), ("spot", "spot"), ("wrong", "spot"), ("wrong2", "spot")],
        beats: &[
            &[
                "{Hero} had {a thing} that {he} loved more than anything. [{He} took it everywhere.|{He} never went out without it.|It had been a present.]",
                "The thing that {hero} loved best was {a thing}. [It was not new, but it was {his} own.|{He} looked at it every morning.]",
                "More than anything, {hero} loved {his} {thing}. [{He} slept next to it every night.|{He} showed it to everyone.]",
            ],
            &[
                "But one {weather}, the {thing} was gone. \"Oh no!\" {hero} cried. \"Where can it be?\"",
                "One {weather}, {hero} looked for it, and it was not there. {He} felt [cold inside|very sad|like crying].",
                "Then one {weather}, {he} lost it. {He} did not know when, and {he} did not know where.",
            ],
            &[
                "{He} looked {wrong}. Nothing. {He} looked {wrong2}. [Still nothing.|There was only dust.|It was not there either.]",
                "First {he} searched {wrong}, but [it was not there|there was nothing at all]. Then {he} searched {wrong2}. [No luck.|Nothing again.]",
                "\"Maybe it is {wrong},\" {he} thought. It was not. \"Maybe it is {wrong2}.\" It was not there either.",
            ],
            &[
                "Just then {friendi} came by. \"Why do you look so sad?\" asked {friend}. \"I have lost my {thing},\" said {hero}. \"Then let us look together,\" said {friend}. [\"Four eyes see more than two.\"|\"Two noses are better than one.\"|\"I like to look for things.\"]",
                "{Friendi} saw {him} and stopped. \"What are you looking for?\" \"My {thing},\" {hero} said. \"I will help you,\" said {friend}. [\"When did you see it last?\"|\"Think hard. Where did you go yesterday?\"|\"Do not worry.\"]",
                "{He} sat down and sighed. Soon {friendi} sat down next to {him}. \"Do not give up,\" {friend} said. \"We have not looked everywhere.\"",
            ],
            &[
                "They went slowly along the way that {hero} had come. And there, {spot}, lay the {thing}! [\"You found it!\" cried {hero}.|{Hero} jumped for joy.]",
                "Together they looked high and low. At last {friend} called, \"Come and see!\" The {thing} was {spot}. [It was a little dirty, but that did not matter.|It was as good as new.]",
                "After a long time, {hero} saw something shine {spot}. It was the {thing}! [\"Hooray!\" they both shouted.|{He} held it tight.]",
            ],
        ],
        asks: &[
            ("What did {hero} lose?", "{Hero} lost {a thing}."),
            ("Where was the {thing}?", "[It|The {thing}] was {spot}."),
            ("Who helped {hero}?", "{Friend} helped {hero}."),
            ("What did they find?", "They found the {thing}."),
        ],
        lesson: &[
            "it is easier to look for something together",
            "a friend is worth more than any {thing}",
            "it pays not to give up",
            "it is good to ask for help",
        ],
    },
    Arc {
        themes: &["being afraid", "courage", "being brave", "fear", "{fear}", "a brave {kind}"],
        draws: &[("fear", "fear")],
        beats: &[
            &[
                "There was only one thing that {hero} did not like: {fear}. [{He} told nobody about it.|Whenever {he} thought of it, {he} shivered.]",
                "{Hero} had a secret. {He} was afraid of {fear}. [The others must not know, {he} thought.|{He} did not want anyone to laugh.]",
                "Everyone is afraid of something, and {hero} was afraid of {fear}.",
            ],
            &[
                "One {weather}, {friend} asked {him} to come along, and [on the way|before long] {fear.1}. {Hero} stood still. {His} heart beat fast.",
                "Then, one {weather}, {fear.1}. {Hero} wanted to run away, but {friend} was [there too|with {him}], and {fhe} needed help.",
                "One {weather}, {hero} was out with {friend} when {fear.1}. \"I cannot do it,\" whispered {hero}.",
            ],
            &[
                "\"Are you afraid?\" asked {friend}. {Hero} nodded. \"I am sometimes afraid too,\" {friend} said. \"Hold on to me, and we will go step by step.\"",
                "{Friend} did not laugh. \"Close your eyes and breathe,\" {fhe} said. \"Now take one small step. Then one more.\"",
                "\"Being brave does not mean that you are not afraid,\" {friend} said softly. \"It means that you try anyway.\"",
            ],
            &[
                "So {hero} took a deep breath and [went on|took a step]. {He} counted: one, two, three. [Nothing bad happened.|It was not so bad.|And then it was over.] [It was {fear.2}.|And look, it was {fear.2}!]",
                "{Hero} took one step, then another. [{His} knees shook, but {he} did not stop.|{He} sang a little song to {himself}.] Slowly {he} saw that it was {fear.2}.",
                "Step by step, {hero} went on. After a while {he} [opened {his} eyes|looked around] and laughed. It was {fear.2}.",
            ],
            &[
                "\"I did it!\" {hero} cried. \"Yes, you did,\" said {friend}, \"and I am proud of you.\"",
                "From that day on, {hero} was not so afraid of {fear} any more.",
                "When they came home, {hero} told everyone about it, and {his} voice did not shake at all.",
            ],
        ],
        asks: &[
            ("What was {hero} afraid of?", "{Hero} was afraid of {fear}."),
            ("Who was with {hero}?", "{Friend} was with {hero}."),
            ("Was {hero} brave in the end?", "Yes, in the end {hero} was brave."),
        ],
        lesson: &[
            "being brave means trying even when you are afraid",
            "a fear gets smaller when you look at it",
            "everyone is afraid sometimes",
            "fear is easier to carry with a friend",
        ],
    },
    Arc {
        themes: &["a new friend", "friendship", "making friends", "someone new", "a shy {fkind}", "being lonely"],
        draws: &[("game", "game"), ("food", "food")],
        beats: &[
            &[
                "{Hero} often played alone. [{He} had nobody to talk to.|{He} wished for somebody to share {his} day with.]",
                "The days were long for {hero}, because there was nobody to play with.",
                "{Hero} knew every stone and every tree, but {he} did not have a friend.",
            ],
            &[
                "One {weather}, {friendi} moved in next door. {FHe} looked at the ground and said nothing.",
                "One {weather}, {hero} saw somebody new. It was {friendi}, who was sitting all alone.",
                "Then one {weather}, {friendi} came along the path with a heavy bag. [Nobody knew {fhim}.|{FHe} had come from far away.]",
            ],
            &[
                "\"Hello,\" said {hero}. There was no answer. [\"Maybe {fhe} does not like me,\" {hero} thought.|\"Perhaps {fhe} is just shy,\" thought {hero}.] So {he} went home and came back with some {food}.",
                "{Hero} wanted to say hello, but {he} did not know how. [{He} thought about it all night.|{He} walked past three times.] Then {he} had an idea. {He} brought some {food}.",
                "\"Would you like to play?\" asked {hero}. {Friend} only shook {fhis} head. The next day {hero} came again, and this time {he} brought some {food}.",
            ],
            &[
                "{Friend} looked up. \"Is that for me?\" {fhe} asked. \"It is for us,\" said {hero}. They sat down and ate, and soon they were [talking|laughing].",
                "\"I made too much,\" {he} said. \"Will you share it with me?\" {Friend} smiled for the first time. \"Thank you. It is hard to be new,\" {fhe} said.",
                "They ate together in the sun. \"I was afraid that nobody would like me,\" {friend} said. \"I like you,\" said {hero}.",
            ],
            &[
                "After that they played {game} until [the sun went down|it was dark|the stars came out]. The next day they did it again.",
                "\"Do you know how to play {game}?\" asked {hero}. {Friend} did, and {fhe} was very good at it. [They played all day.|They laughed and laughed.]",
                "Soon nobody saw one without the other. They played {game}, and they told each other everything.",
            ],
        ],
        asks: &[
            ("What did {hero} bring?", "{Hero} brought some {food}."),
            ("What did they play?", "They played {game}."),
            ("Who was the new friend?", "The new friend was {friend}."),
        ],
        lesson: &[
            "a kind word can open a door",
            "a friend may be nearer than you think",
            "sharing is a good way to begin",
            "shy people need a little time",
        ],
    },
    Arc {
        themes: &["sharing", "kindness", "being kind", "helping others", "winter", "being hungry"],
        draws: &[("food", "food")],
        beats: &[
            &[
                "It was a hard winter. {Hero} had [only a little food left|one last bag of flour|just enough for one more day], and {he} made some {food}.",
                "One {weather}, {hero} made some {food}. It smelled wonderful, and {he} could not wait to eat it.",
                "{Hero} had worked all week, and at last {he} had some {food} on the table.",
            ],
            &[
                "Then there was a knock at the door. Outside stood {friendi}. \"I have not eaten since yesterday,\" {fhe} said [quietly|with a small voice].",
                "Just as {he} sat down, {he} saw {friendi} looking through the window. {FHe} looked cold and hungry.",
                "On the way {he} met {friendi}, who was too tired to walk. \"I am so hungry,\" said {friend}.",
            ],
            &[
                "{Hero} looked at the {food}. It was not much. [But then {he} looked at {friend}.|For a moment {he} did not know what to do.] \"Come in,\" {he} said. \"There is enough for two.\"",
                "\"If I share it, I will still be hungry,\" {hero} thought. \"But if I do not, {fhe} will be very hungry.\" So {he} cut everything into two equal parts.",
                "{Hero} did not think long. \"Sit down by the fire,\" {he} said, and {he} gave {fhim} the bigger half.",
            ],
            &[
                "They ate slowly, and it tasted better than ever. \"Thank you,\" said {friend}. \"I will not forget this.\"",
                "{Friend} ate every crumb. Then {fhe} told a story that was so funny that they both laughed until they cried.",
                "When the food was gone, they were both warm, and they talked until midnight.",
            ],
            &[
                "In spring, {friend} came back with a basket full of good things. \"You shared with me when you had little,\" {fhe} said. \"Now I can share with you.\"",
                "The next morning there was a big bag of nuts in front of the door, and next to it lay a note: \"From your friend.\"",
                "Weeks later, when {hero} was ill, it was {friend} who came every day with hot soup.",
            ],
        ],
        asks: &[
            ("What did {hero} make?", "{Hero} made some {food}."),
            ("Who was hungry?", "{Friend} was hungry."),
            ("What did {hero} do with the food?", "{Hero} shared it with {friend}."),
        ],
        lesson: &[
            "food tastes better when it is shared",
            "a kind deed comes back one day",
            "even a little is enough for two",
            "to give makes both people glad",
        ],
    },
    Arc {
        themes: &[
            "learning something new",
            "practice",
            "not giving up",
            "learning to {skill}",
            "a {kind} who wants to {skill}",
            "trying again",
        ],
        draws: &[("skill", "skill")],
        beats: &[
            &[
                "{Hero} wanted to {skill}. [All the others could do it.|{He} dreamed of it every night.|It looked so easy.]",
                "There was one thing that {hero} wished to do: {he} wished to {skill}.",
                "When {hero} saw {friend}, who was good at {skill.1}, {he} said, \"I want to learn that too!\"",
            ],
            &[
                "On the first day {he} tried, and it went wrong. [{He} fell over.|Nothing worked.] On the second day it went wrong again. \"I will never learn it,\" {he} said.",
                "But it was not as easy as it looked. {He} tried once, {he} tried twice, and {he} tried ten times. [It did not work.|Some of the others laughed.]",
                "{He} tried all morning. {He} tried all afternoon. In the evening {he} was tired and [cross|close to tears].",
            ],
            &[
                "{Friendi} had watched. \"I could not do it at first either,\" {fhe} said. \"I will show you. Slowly, like this.\"",
                "Then {he} went to {elder}. \"How long does it take to learn?\" {hero} asked. \"A little every day,\" was the answer, \"and one day you will be surprised.\"",
                "\"You want to run before you can walk,\" said {friendi}. \"Start with the small part. When you can do that, do the next.\"",
            ],
            &[
                "So {hero} practised every day, in sun and in rain. [Each time it went a little better.|Some days were good and some were bad.]",
                "Day after day {hero} practised. [A week went by, then two.|{He} did not count how often it went wrong.]",
                "{He} began again, and this time {he} took small steps. [It helped.|{He} made fewer mistakes every day.]",
            ],
            &[
                "And one {weather}, it happened: {hero} {skill.2}! \"Look at me!\" {he} called, and everybody [clapped|cheered].",
                "Then, on a {weather}, {he} {skill.2} as if {he} had always known how. {Friend} [clapped|smiled from ear to ear].",
                "At last {he} {skill.2}, all by {himself}. {He} was so happy that {he} did it three more times.",
            ],
        ],
        asks: &[
            ("What did {hero} want to learn?", "{Hero} wanted to {skill}."),
            ("How did {hero} learn it?", "{Hero} practised every day."),
            ("Did {hero} give up?", "No, {hero} did not give up."),
        ],
        lesson: &[
            "practice makes hard things easy",
            "every master was once a beginner",
            "small steps lead far",
            "a mistake is a part of learning",
        ],
    },
    Arc {
        themes: &["a strange sound", "a mystery", "the night", "a noise in the night", "a secret"],
        draws: &[("sound", "sound")],
        beats: &[
            &[
                "One night {hero} woke up. There was a strange sound: \"{Sound}.\" [{He} pulled the blanket over {his} head.|{He} sat up in bed.]",
                "It was late, and everyone was asleep. Only {hero} was awake, because {he} heard something: \"{Sound}.\"",
                "In the middle of the night, a sound came from outside. \"{Sound},\" it went, and then again, \"{sound}.\"",
            ],
            &[
                "\"What is that?\" {he} whispered. [Was it a monster? Was it a thief?|It did not stop.] {He} ran to {friend} and woke {fhim} up.",
                "{He} could not sleep any more. So {he} took a lamp and went to get {friendi}. \"Listen,\" said {hero}. \"Do you hear it?\"",
                "{Hero} thought about it for a while. \"I must know what it is,\" {he} said, and {he} called {friend}.",
            ],
            &[
                "\"Let us find out,\" said {friend}. They [went on tiptoe|crept through the dark], one behind the other. The sound came nearer and nearer.",
                "They held hands and followed the sound. [It was dark, and the wind blew.|The moon gave a little light.] \"I am right behind you,\" said {friend}.",
                "Together they went outside. [A twig cracked.|An owl called.] \"Do not be afraid,\" said {friend}, but {fhis} voice shook a bit.",
            ],
            &[
                "Then they saw it. It was only {sound.1}! [They looked at each other and burst out laughing.|\"Is that all?\" said {hero}.]",
                "{Hero} held up the lamp, and there it was: {sound.1}. [\"And I thought it was a monster!\" {he} laughed.|They both breathed out.]",
                "Behind the corner they found {sound.1}. [\"So that is the secret,\" said {friend}.|\"Mystery solved!\" said {hero}.]",
            ],
            &[
                "They took care of it, and then they had a cup of warm milk. [After that they slept until noon.|It was quiet for the rest of the night.]",
                "They went back to bed, and this time {hero} fell asleep at once.",
                "The next morning they told the story to everybody, and with every telling the monster got bigger.",
            ],
        ],
        asks: &[
            ("What did {hero} hear?", "{Hero} heard a strange sound: \"{sound}.\""),
            ("What made the sound?", "It was {sound.1}."),
            ("When did {hero} hear the sound?", "{Hero} heard it at night."),
        ],
        lesson: &[
            "most monsters are small when you light a lamp",
            "it is better to look than to worry",
            "not everything strange is bad",
            "questions have answers if you go and look",
        ],
    },
    Arc {
        themes: &["telling the truth", "honesty", "saying sorry", "a mistake", "a broken {fragile}", "an accident"],
        draws: &[("fragile", "fragile"), ("game", "game")],
        beats: &[
            &[
                "One {weather}, {hero} was playing {game}. [{He} ran faster and faster.|{He} did not look where {he} was going.] Crash! The {fragile} of {friend} was broken.",
                "{Hero} was told not to play {game} near the house, but {he} did it all the same. Then there was a loud crash. The {fragile} that belonged to {friend} lay in pieces.",
                "It happened so quickly. One moment {hero} was playing {game}, and the next moment the {fragile} was broken. It belonged to {friend}.",
            ],
            &[
                "Nobody had seen it. {Hero} hid the pieces and ran home. [But {his} stomach hurt.|{He} could not eat {his} supper.]",
                "{Hero} looked left and right. Nobody was there. \"If I say nothing, nobody will know,\" {he} thought. But {he} could not sleep that night.",
                "When {friend} came home, {fhe} asked, \"Who did this?\" {Hero} looked at the floor. \"It was the wind,\" {he} said. It felt like a stone in {his} chest.",
            ],
            &[
                "The next day {he} asked {elder} for advice. \"The truth is heavy only until you say it,\" was the answer.",
                "All day long {he} thought about it. The sun shone, but {he} could not enjoy it. \"I have to tell {fhim},\" {he} said at last.",
                "In the morning {he} saw how sad {friend} was, and {he} knew what {he} had to do.",
            ],
            &[
                "{He} went to {friend}. \"It was me,\" said {hero}. \"I broke it, and I am sorry.\" It was quiet for a moment.",
                "\"I have to tell you something,\" {he} said to {friend}. \"I broke your {fragile}. I was afraid to say it. I am very sorry.\"",
                "With shaking knees {he} went to {friend} and told {fhim} everything, from the beginning to the end.",
            ],
            &[
                "\"Thank you for telling me,\" said {friend}. \"A thing can be mended. It is harder to mend trust.\" Then they [fixed it together|got the glue and set to work].",
                "{Friend} was a little angry, but then {fhe} smiled. \"That was brave of you,\" {fhe} said. \"Come, help me mend it.\"",
                "\"I am glad that you told me,\" {friend} said. Together they put the pieces back, one by one. The {fragile} had cracks now, but {friend} liked it even more.",
            ],
        ],
        asks: &[
            ("What was broken?", "The {fragile} was broken."),
            ("What did {hero} break?", "{Hero} broke the {fragile}."),
            ("Who did the {fragile} belong to?", "It belonged to {friend}."),
            ("Did {hero} tell the truth in the end?", "Yes, {hero} told the truth and said sorry."),
        ],
        lesson: &[
            "the truth makes the heart light",
            "it is brave to say sorry",
            "a lie is heavier than the truth",
            "friends can forgive",
        ],
    },
    Arc {
        themes: &["getting lost", "finding the way home", "a long way home", "a journey", "an adventure"],
        draws: &[("tree", "tree"), ("flower", "flower")],
        beats: &[
            &[
                "One {weather}, {hero} went out [to pick some flowers|to see the world|for a walk]. {He} saw {a flower}, then another, and {he} went farther and farther.",
                "\"Do not go too far,\" they had told {hero}. But one {weather} {he} followed a butterfly, over the stream and past the tall {tree}.",
                "One {weather}, {hero} wanted to know what was behind the hills. {He} packed some bread and went off.",
            ],
            &[
                "When {he} looked up, nothing looked as it should. [Where was the path?|The path was gone.] \"I am lost,\" {he} said, and {his} voice was small.",
                "Then fog came down, and {he} could not see the path any more. {He} called, but only the echo answered.",
                "After some hours {he} turned around, but all the ways looked the same. The sun was already low.",
            ],
            &[
                "Under {a tree} sat {friendi}. \"Are you lost?\" asked {friend}. \"Yes,\" said {hero}. \"I want to go home.\" \"What can you see from your home?\" asked {friend}. \"I can see the river,\" said {hero}.",
                "{He} was about to cry when {friendi} came along. \"I know these hills,\" said {friend}. \"Tell me what your home is like.\" \"There is {a tree} in front of it, and I can hear the river,\" said {hero}.",
                "Then {he} heard a voice. It was {friendi}. \"Crying makes the eyes wet and the way no shorter,\" {fhe} said kindly. \"Let us think. Is there a river near your home?\" {Hero} nodded.",
            ],
            &[
                "\"Then we follow the water,\" said {friend}. They walked [and walked|through high grass and over stones]. The moon came up and [lit the way|walked with them].",
                "\"Good,\" said {friend}. \"Small streams run into big ones. We only have to listen.\" So they listened, and they walked towards the sound of the water.",
                "They climbed a hill and looked around. Far away something was shining in the evening sun. \"The river!\" cried {hero}.",
            ],
            &[
                "At last {hero} saw a light in a window. {He} was home! {Friend} stayed for supper, of course.",
                "And there it was, {his} own home, with smoke above the roof. \"I will never forget what you did,\" said {hero}, and {friend} [waved and went away|smiled].",
                "Late in the evening they arrived. Everybody was so glad that nobody was angry.",
            ],
        ],
        asks: &[
            ("Why was {hero} sad?", "{Hero} was lost and wanted to go home."),
            ("Who helped {hero} to find the way home?", "{Friend} helped {him}."),
            ("How did they find the way?", "They followed the river."),
        ],
        lesson: &[
            "it helps to stop and think",
            "a river always knows the way",
            "home is sweetest after a long way",
            "it is wise to remember the path",
        ],
    },
    Arc {
        themes: &["a present", "a birthday", "a gift", "a birthday party", "a surprise"],
        draws: &[("gift", "gift"), ("food", "food"), ("colour", "colour")],
        beats: &[
            &[
                "It was almost the birthday of {friend}, and {hero} had no present. [{He} had no money.|{He} had an empty pocket and a full heart.]",
                "Tomorrow was the birthday of {friend}. \"What can I give {fhim}?\" {hero} wondered.",
                "{Hero} heard that {friend} had a birthday soon. {He} wanted to give {fhim} the best present in the world.",
            ],
            &[
                "{He} went to the market, but everything cost too much. {He} looked at {a colour} hat and at a shiny clock, and {he} counted {his} three coins again.",
                "First {he} thought of {a colour} hat, but {friend} already had one. Then {he} thought of a book, but {he} could not buy one.",
                "{He} tried to bake some {food}, but it burned. [The kitchen was full of smoke.|It was as black as coal.]",
            ],
            &[
                "\"The best presents are made and not bought,\" said {elder}. That gave {hero} an idea.",
                "{He} sat down [under a tree|on the stairs] and thought. Then {he} jumped up. \"I know!\" {he} cried.",
                "In the night {he} had a dream, and when {he} woke up, {he} knew what to do.",
            ],
            &[
                "{He} worked all day and half the night. In the morning {he} had {gift}, wrapped in {colour} paper.",
                "{He} took what {he} had and used {his} own two hands. When the sun came up, {gift} lay on the table.",
                "It took a long time, and {he} had to begin again twice, but then it was ready: {gift}.",
            ],
            &[
                "\"Is this for me?\" asked {friend}. {FHis} eyes were shining. \"Nobody has ever made me {gift} before.\" [They danced until the evening.|Then there was {food} for everyone.]",
                "{Friend} got many presents that day, but {fhe} liked {gift} best of all.",
                "When {friend} saw it, {fhe} was quiet for a moment, and then {fhe} hugged {hero} very hard. \"Thank you,\" {fhe} said. \"It is perfect.\"",
            ],
        ],
        asks: &[
            ("What did {hero} give to {friend}?", "{Hero} gave {friend} {gift}."),
            ("Whose birthday was it?", "It was the birthday of {friend}."),
            ("Did {friend} like the present?", "Yes, {friend} liked it very much."),
        ],
        lesson: &[
            "the best presents come from the heart",
            "a gift does not have to cost money",
            "time is a wonderful present",
            "thinking of someone is already a gift",
        ],
    },
    Arc {
        themes: &["a quarrel", "making up", "two friends", "an argument", "forgiving a friend"],
        draws: &[("thing", "thing")],
        beats: &[
            &[
                "{Hero} and {friendi} were best friends. [They did everything together.|They met every day.]",
                "Everyone knew that {hero} and {friendi} belonged together like bread and butter.",
                "{Hero} had a good friend, {friendi}. They had never had a quarrel.",
            ],
            &[
                "But one {weather} they found {a thing} on the path. \"I saw it first!\" said {hero}. \"No, I did!\" said {friend}. [They pulled and they shouted.|Their voices got louder and louder.]",
                "Then one {weather} both of them wanted the same thing: {a thing}. \"It is mine,\" said {friend}. \"No, mine!\" cried {hero}.",
                "One {weather}, {hero} took the {thing} of {friend} without asking. {Friend} was very angry. \"You are not my friend any more!\" {fhe} said.",
            ],
            &[
                "They went home in different directions. [Nobody said goodbye.|{Hero} slammed the door.] The {thing} stayed behind in the grass.",
                "After that they did not speak. One day went by, and then another. [The days were long and dull.|It was very quiet.]",
                "{Hero} sat at home and was angry. Then {he} was not angry any more, only sad.",
            ],
            &[
                "{Hero} looked at the {thing}. It was not fun to have it alone. \"I want my friend back,\" {he} said.",
                "\"What is more important,\" asked {elder}, \"to be right or to be friends?\" {Hero} thought about it for a long time.",
                "On the third day {hero} could not bear it. {He} took a deep breath and went to see {friend}.",
            ],
            &[
                "Halfway {he} met {friend}, who had had the same idea. \"I am sorry,\" they both said at the same time, and then they laughed.",
                "\"I am sorry,\" said {hero}. \"I am sorry too,\" said {friend}. From then on the {thing} belonged to both of them.",
                "{He} knocked at the door. \"I was wrong,\" said {hero}. \"Can we be friends again?\" {Friend} opened the door wide. \"We never stopped,\" {fhe} said.",
            ],
        ],
        asks: &[
            ("What did they quarrel about?", "They quarrelled about {a thing}."),
            ("Are {hero} and {friend} friends again?", "Yes, they said sorry and are friends again."),
            ("Who was the friend of {hero}?", "The friend of {hero} was {friend}."),
        ],
        lesson: &[
            "a friend is more important than being right",
            "the word sorry is small but strong",
            "things are nicer when they belong to two",
            "a quarrel does not have to last",
        ],
    },
    Arc {
        themes: &["a storm", "rain", "helping a neighbour", "working together", "the wind", "building a house"],
        draws: &[("food", "food"), ("tree", "tree")],
        beats: &[
            &[
                "One night a great storm came. The wind [roared|howled], and the rain beat against the windows. In the morning the home of {friend} was gone.",
                "It rained for three days. The water rose and rose, until the home of {friend} was full of it.",
                "In a stormy night {a tree} fell down, and it fell on the home of {friendi}. Luckily nobody was hurt.",
            ],
            &[
                "{Friend} sat in the wet grass. \"Where shall I live now?\" {fhe} said. {Hero} saw it, and {his} heart hurt.",
                "\"Everything is lost,\" said {friend}. \"No,\" said {hero}, \"you still have me.\"",
                "{Hero} ran over at once. \"You can stay with me tonight,\" {he} said, \"and tomorrow we will see.\"",
            ],
            &[
                "{Hero} went from door to door. \"We need wood,\" {he} said. \"We need hands.\" [Some were too busy at first.|And one after the other, they came.]",
                "\"We cannot do it alone,\" said {hero}, and {he} called all the neighbours. One brought a hammer, one brought nails, and one brought a pot of {food}.",
                "{He} began to carry branches, one by one. The others saw it and came to help. Soon there was a long line of helpers.",
            ],
            &[
                "The strong ones carried wood, the small ones held the nails, and {elder} told them what to do. They sang while they worked.",
                "They sawed and hammered all day. [Somebody hit a thumb and said a bad word.|Somebody told jokes.] At noon they ate some {food}.",
                "All day long there was knocking and singing. Nobody did everything, but everybody did something.",
            ],
            &[
                "When the sun went down, a new home stood there, and it was stronger than the old one. \"Thank you, all of you,\" said {friend}.",
                "In the evening the roof was on. {Friend} opened the door and laughed. \"Come in, everybody!\" {fhe} called.",
                "After three days the house was ready. {Friend} hung a sign above the door. On it stood: \"Built by friends.\"",
            ],
        ],
        asks: &[
            ("Whose home was lost?", "The home of {friend} was lost."),
            ("Who helped {friend} first?", "{Hero} helped {friend} first."),
            ("What did they build?", "They built a new home for {friend}."),
        ],
        lesson: &[
            "many hands make light work",
            "together even a storm can be mended",
            "a neighbour is a treasure",
            "nobody is too small to help",
        ],
    },
    Arc {
        themes: &["a race", "winning and losing", "a contest", "a proud {fkind}", "being fast and slow"],
        draws: &[("treasure", "treasure"), ("colour", "colour")],
        beats: &[
            &[
                "Every summer there was a great race, and the winner got {a colour} ribbon. \"I will win,\" said {friendi}. [\"I always win,\" {fhe} added.|{FHe} was very sure.]",
                "{Friendi} was the fastest of all, and {fhe} said so every day. \"Nobody can beat me,\" {fhe} said.",
                "\"Let us have a race!\" called {friendi}. \"The first one at the big stone gets {a colour} ribbon.\"",
            ],
            &[
                "{Hero} was not fast, but {he} wanted to try. [The others smiled.|\"You?\" laughed {friend}.]",
                "Nobody wanted to run against {fhim}, except {hero}. \"I will run,\" said {hero}. \"It may be fun.\"",
                "{Hero} put up {his} hand. \"I would like to run too,\" {he} said, and it became very quiet.",
            ],
            &[
                "One, two, three, and off they went! {Friend} was far ahead at once. {Hero} ran as well as {he} could. {He} looked at the path and not at the others.",
                "The race began. {Friend} shot away like an arrow. {Hero} ran at {his} own speed, step by step.",
                "Off they ran, over the bridge and through the grass. Soon {hero} could only see the dust behind {friend}.",
            ],
            &[
                "Then {friend} turned around to laugh, and {fhe} did not see the root. Bump! {FHe} fell and held {fhis} leg. {Hero} could have run past and won. But {he} stopped. \"Are you hurt?\" {he} asked.",
                "Behind the hill {friend} sat on the ground. \"My foot!\" {fhe} cried. The goal was near. But {hero} did not run on. {He} helped {fhim} up.",
                "But near the end {friend} slipped and fell into a muddy ditch. {Hero} looked at the goal, and then {he} looked at {friend}. {He} reached out and pulled {fhim} out.",
            ],
            &[
                "They crossed the line together, arm in arm, and everyone cheered. {Friend} cut the ribbon in two and gave one half to {hero}.",
                "\"You could have won,\" said {friend}. \"I have won,\" said {hero}. \"I have won a friend.\"",
                "They came in last, side by side, but the cheers were louder than ever. {Friend} never bragged again.",
            ],
        ],
        asks: &[
            ("Who was the fastest?", "{Friend} was the fastest."),
            ("Why did {hero} stop?", "{Hero} stopped to help {friend}."),
            ("What did the winner get?", "The winner got {a colour} ribbon."),
        ],
        lesson: &[
            "helping is better than winning",
            "nobody loses who helps a friend",
            "it is not good to brag",
            "it is fine to go at your own speed",
        ],
    },
    Arc {
        themes: &["a garden", "growing something", "patience", "a seed", "waiting", "spring", "planting {a flower}"],
        draws: &[("flower", "flower"), ("colour", "colour"), ("elderx", "elder")],
        beats: &[
            &[
                "One {weather}, {hero} found a tiny seed. \"What is it?\" {he} asked. \"Put it into the earth and wait,\" said {elder}.",
                "{Friendi} gave {hero} a small brown seed. \"If you are good to it, it will be good to you,\" said {friend}.",
                "{Hero} had always wanted a garden. One {weather} {he} got a single seed, and {he} was very proud of it.",
            ],
            &[
                "{He} dug a hole, put the seed into it, and gave it some water. Then {he} sat down and waited. Nothing happened.",
                "{He} planted it in the best place, where the sun shone all day. The next morning {he} ran out to look. There was only brown earth.",
                "{He} made a little bed of soft earth and put the seed in. \"Grow!\" {he} said. But it did not grow that day, nor the next.",
            ],
            &[
                "\"Maybe it is asleep,\" {he} thought, and {he} sang to it. A week went by. [It rained, and the sun shone again.|Still nothing.]",
                "\"It does not like me,\" {he} said to {friend}. \"Give it time,\" said {friend}. \"A seed does its work in the dark, where nobody can see it.\"",
                "{He} wanted to dig it up and look. \"Do not do that,\" said {friend}. \"Good things need time.\"",
            ],
            &[
                "So {hero} gave it water every day, and {he} pulled out the weeds. [Some days {he} almost forgot it, but not quite.|{He} told it about {his} day.]",
                "{He} waited, and {he} learned to wait. {He} kept the birds away, and {he} gave it a little water in the evening.",
                "Every morning {he} said hello to the earth. And every evening {he} said good night.",
            ],
            &[
                "Then one {weather} there was a green tip! It grew and grew, and in summer {a colour} {flower} opened. [It was the finest flower far and wide.|All the bees came to see it.]",
                "And one morning a small green leaf looked out. Some weeks later {hero} had {a colour} {flower}, and {he} gave the first seeds of it to {friend}.",
                "One day the earth opened, and something green came out. It became {a colour} {flower}, taller than {hero}. \"It was worth it,\" {he} said.",
            ],
        ],
        asks: &[
            ("What did {hero} plant?", "{Hero} planted a seed."),
            ("What grew from the seed?", "{A colour} {flower} grew from it."),
            ("What did {hero} do every day?", "{Hero} gave it water and waited."),
        ],
        lesson: &[
            "good things take time",
            "waiting is a kind of work too",
            "a little care every day is enough",
            "you cannot pull a flower to make it grow",
        ],
    },
    Arc {
        themes: &["a rescue", "someone in trouble", "being small", "saving a friend", "a small hero", "{a fkind}"],
        draws: &[("tree", "tree")],
        beats: &[
            &[
                "One {weather}, {hero} heard somebody cry, \"Help! Help!\" {He} ran to see. {Friendi} was [stuck in the mud|caught in an old net|stuck between two rocks].",
                "On {his} way home one {weather}, {hero} heard a small voice. {Friendi} had fallen into a deep hole and could not get out.",
                "One {weather}, the river was high. In the middle of it, on a stone, sat {friendi}, and the water was rising.",
            ],
            &[
                "\"Do not worry, I will get you out,\" said {hero}. But {he} was not strong enough. {He} pulled and pulled, and nothing moved.",
                "{Hero} reached out, but {his} arm was too short. \"You are too small,\" said {friend}. \"Perhaps,\" said {hero}, \"but I can think.\"",
                "\"Stay calm!\" called {hero}. {He} looked around. There was nobody else. It was up to {him}.",
            ],
            &[
                "{He} saw a long branch under {a tree}. \"That is it!\" {he} cried. {He} dragged it over and pushed it towards {friend}.",
                "{He} found an old rope and tied one end to {a tree}. The other end {he} threw to {friend}. \"Hold on tight!\"",
                "{He} thought hard. Then {he} rolled one stone after the other to the place, until they made a kind of stair.",
            ],
            &[
                "Slowly, very slowly, {friend} came up. One more step, and {fhe} was free! [Both of them lay in the grass and laughed.|{FHe} was wet, but {fhe} was safe.]",
                "\"Now!\" said {hero}, and {friend} climbed with all {fhis} strength. At last {fhe} stood on safe ground.",
                "It took a long time, and they almost gave up. But in the end {friend} was free.",
            ],
            &[
                "\"You saved me,\" said {friend}. \"If you ever need help, call me.\" And some weeks later {hero} did, but that is another story.",
                "\"I said that you were too small,\" said {friend}. \"I was wrong. You are the biggest friend I have.\"",
                "From then on, nobody ever called {hero} small again. And {friend} came to visit every Sunday.",
            ],
        ],
        asks: &[("Who needed help?", "{Friend} needed help."), ("Who saved {friend}?", "{Hero} saved {friend}.")],
        lesson: &[
            "a good idea is stronger than a strong arm",
            "even the smallest can help",
            "it is worth staying calm",
            "clever thinking can move big stones",
        ],
    },
    Arc {
        themes: &["a treasure", "a map", "an adventure", "a secret place", "pirates", "finding a treasure"],
        draws: &[("treasure", "treasure"), ("spot", "spot"), ("tree", "tree")],
        beats: &[
            &[
                "One {weather}, {hero} found an old map {spot}. There was a red cross on it. \"A treasure!\" {he} whispered.",
                "In an old book {hero} discovered a map. It showed {place.1}, and in one corner there was a red cross.",
                "The wind blew a piece of paper to the feet of {hero}. It was a map, and it was very old.",
            ],
            &[
                "{He} showed it to {friendi}. \"Will you come with me?\" {he} asked. \"I have been waiting for an adventure all my life,\" said {friend}.",
                "\"I cannot read it alone,\" {he} thought, and so {he} went to {friendi}, who was good with maps. They packed bread and a spade and set off.",
                "\"We will share everything,\" said {hero} to {friendi}, and they shook hands.",
            ],
            &[
                "They went ten steps to the north and twenty steps to the east. They climbed over a wall, and they crossed a shaky bridge.",
                "The map led them past {a tree} that looked like an old man, and through a gate with no fence. [\"Left,\" said {friend}. \"No, right,\" said {hero}.|They only got lost twice.]",
                "The way was long. The sun was hot, and their feet hurt. \"Shall we turn back?\" asked {friend}. \"Just a bit farther,\" said {hero}.",
            ],
            &[
                "At last they came to the place with the cross. They dug and dug. Then the spade hit something hard. It was {treasure}!",
                "Under a flat stone they found a hole, and in the hole was {treasure}. [\"No gold?\" said {friend}.|They looked at it for a long time.]",
                "They moved the leaves away, and there it was: {treasure}. Somebody had hidden it there many years ago.",
            ],
            &[
                "It would not make them rich, but they did not mind. \"The best part was the way,\" said {hero}, and {friend} nodded.",
                "They took it home and showed it to everybody. Then they drew a new map, and they hid a treasure of their own.",
                "\"It belongs to both of us,\" said {hero}. They sat in the evening sun and were as happy as kings.",
            ],
        ],
        asks: &[
            ("What did {hero} find first?", "{Hero} found an old map."),
            ("What was the treasure?", "The treasure was {treasure}."),
            ("Who went with {hero}?", "{Friend} went with {him}."),
        ],
        lesson: &[
            "the way can be better than the goal",
            "an adventure is best when you share it",
            "not all treasure is gold",
            "a friend is the best treasure",
        ],
    },
    Arc {
        themes: &["a wish", "magic", "being happy with what you have", "three wishes", "a magic lamp", "dreams"],
        draws: &[("thing", "thing"), ("food", "food")],
        beats: &[
            &[
                "One {weather}, {hero} found {a thing} in the grass. {He} cleaned it, and a voice said, \"You have three wishes. Use them well.\"",
                "One evening a falling star landed near {hero}. \"Because you found me,\" said the star, \"I will give you three wishes.\"",
                "{Hero} was kind to an old traveller, and the traveller said, \"You may have three wishes.\"",
            ],
            &[
                "\"I wish for a mountain of {food}!\" said {hero} at once. And there it was. {He} ate and ate until {his} stomach hurt.",
                "First {hero} wished to be very big. But when {he} was big, {he} did not fit through the door, and everybody ran away.",
                "{Hero} wished for a great house. But the house was so big that it was cold, and {his} own steps echoed in it.",
            ],
            &[
                "{Friend} came to see {him}. \"Are you happy now?\" {fhe} asked. {Hero} thought about it. \"No,\" {he} said.",
                "\"That is not what I wanted,\" {he} told {friendi}. \"What do you really want?\" asked {friend}. {Hero} did not know.",
                "{He} told {friendi} about it. \"Be careful,\" said {friend}. \"A wish is easily said.\"",
            ],
            &[
                "So {his} second wish was that everything should be as before. And it was. [How good it was to be {himself}!|{He} laughed with relief.]",
                "\"I wish that all this was gone,\" said {hero}, and in a moment everything was as it had been.",
                "For the second wish {he} said, \"I want my old life back.\" There was a flash, and {he} had it back.",
            ],
            &[
                "One wish was left. {Hero} gave it to {friend}. \"I wish that we stay friends,\" said {friend}. That wish has lasted to this day.",
                "The third wish {he} kept in {his} pocket. {He} never needed it, for {he} had everything that {he} wanted.",
                "And the last wish? {Hero} wished that everyone might have a warm bed that night. Then {he} fell asleep in {his} own.",
            ],
        ],
        asks: &[
            ("How many wishes did {hero} have?", "{Hero} had three wishes."),
            ("Was {hero} happy with the first wish?", "No, the first wish did not make {him} happy."),
            ("Who talked to {hero} about the wishes?", "{Friend} talked to {him}."),
        ],
        lesson: &[
            "it is good to be content",
            "more is not always better",
            "what you have may be what you need",
            "a wish should be thought about twice",
        ],
    },
    Arc {
        themes: &["a job to do", "work", "a clever idea", "a problem", "being different", "an inventor"],
        draws: &[("food", "food"), ("colour", "colour"), ("tree", "tree")],
        beats: &[
            &[
                "{Hero} was not like the others. [{He} had too many ideas.|{He} did things in {his} own way.] \"Why can you not be like us?\" they asked.",
                "The others often laughed at {hero}, because {he} was always building strange things out of wood and string.",
                "All the others had a job to do, but nobody knew what {hero} was good for, not even {hero}.",
            ],
            &[
                "One {weather} there was a problem. The well was dry, and the water was far away. [Everybody was thirsty.|They had to carry it up the hill in small cups.]",
                "One {weather} the bridge broke, and nobody could get to the other side. The food was on that side, and the hungry mouths were on this one.",
                "Then came a {weather} when the bell of {place.1} did not ring. Nobody knew why, and everybody was late.",
            ],
            &[
                "They talked and talked, but nobody knew what to do. \"May I try something?\" asked {hero}. They shook their heads, but {friend} said, \"Let {him} try.\"",
                "\"I have an idea,\" said {hero}. Some of them laughed. Only {friendi} did not. \"Tell me,\" {fhe} said.",
                "{Hero} looked at it from all sides. {He} drew lines in the sand. \"What are you doing?\" asked {friendi}. \"I am thinking,\" said {hero}.",
            ],
            &[
                "{He} took a rope, a wheel and {a colour} bucket, and {he} worked until the evening. {Friend} held the lamp.",
                "Together they carried wood from the old {tree}. They tied and they tested. Twice it fell apart, and the third time it held.",
                "{He} needed only a piece of string, a bent nail, and a lot of patience. {Friend} made some {food} and kept {him} company.",
            ],
            &[
                "And it worked! Everybody cheered. \"We were wrong to laugh,\" they said. \"Please go on having ideas.\"",
                "In the morning all was well. \"How did you do that?\" they asked. {Hero} smiled. \"I just did it in my own way,\" {he} said.",
                "From then on, when there was a problem, they all said, \"Let us ask {hero}.\"",
            ],
        ],
        asks: &[
            ("Who had an idea?", "{Hero} had an idea."),
            ("Who believed in {hero}?", "{Friend} believed in {him}."),
            ("Did the idea work?", "Yes, it worked."),
        ],
        lesson: &[
            "it is good to be different",
            "a new idea needs a friend",
            "everyone is good at something",
            "one should not laugh at ideas",
        ],
    },
    Arc {
        themes: &["bedtime", "the moon", "sleep", "the stars", "a dream", "a quiet evening"],
        draws: &[("colour", "colour"), ("food", "food"), ("tree", "tree")],
        beats: &[
            &[
                "It was late, but {hero} could not sleep. {He} turned to the left, and {he} turned to the right. [The bed was too warm.|{His} head was full of thoughts.]",
                "The sun had gone down, and everybody was in bed. Only {hero} was wide awake.",
                "\"Time for bed,\" they said. But {hero} was not tired at all.",
            ],
            &[
                "So {he} went outside. The moon stood over the {tree} like {a colour} lamp. \"Good evening,\" said {hero} to the moon.",
                "{He} looked out of the window. There were so many stars that {he} began to count them. \"One, two, three,\" {he} said.",
                "{He} tiptoed to the door. The grass was wet, and the air smelled of flowers and night.",
            ],
            &[
                "In the grass sat {friendi}. \"Can you not sleep either?\" asked {friend}. \"No,\" said {hero}. They sat side by side and looked up.",
                "{Friendi} was there too. \"I like the night,\" said {friend}. \"It is quiet, and you can hear yourself think.\"",
                "Then {friendi} came with some {food} and a blanket. They shared both.",
            ],
            &[
                "\"What do you think the stars are?\" asked {hero}. \"Maybe they are lamps that somebody forgot to put out,\" said {friend}. They thought about it for a while.",
                "{Friend} told {him} about the things that wake up at night: the owls, the bats, and the little white moths. {Hero} listened, and {his} eyes grew heavy.",
                "They did not talk much. Sometimes it is enough to sit next to somebody.",
            ],
            &[
                "When {friend} looked at {hero} again, {he} was asleep. {Friend} carried {him} to bed and put out the lamp.",
                "\"Good night,\" whispered {hero}, and this time sleep came at once, soft as a feather.",
                "Slowly {hero} walked back to bed. {He} dreamed of a boat that sailed between the stars.",
            ],
        ],
        asks: &[
            ("Why did {hero} go outside?", "{Hero} could not sleep."),
            ("Who did {hero} meet?", "{Hero} met {friend}."),
            ("What time of day was it?", "It was night."),
        ],
        lesson: &[
            "the night is a quiet friend",
            "it is easier to sleep when somebody is near",
            "the dark is full of small lights",
            "sleep comes when you stop looking for it",
        ],
    },
];
