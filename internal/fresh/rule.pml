/*
 * The rule of table.go as a model. Two copies of a packet go through Check and
 * Commit, and with -DONE two of another one, in the next life of its slice, else
 * one beside it in this life: with sleeps between any two steps, while the floor
 * rises and the sweep goes round. -DRESET: two copies of a packet alone, a clock
 * that is set back, and a Reset. No packet is accepted twice; and (-DRESTART) none that the receiver before this one had accepted.
 *
 * Time goes in slices: G = 1, and W = 2, the G by which the floor may lag being one of them: K = 3,
 * so K*G = W + G. All packets are of one slice: of times 1 and 4. These are faults, which the model must find:
 * NO_REREAD, NO_CYCLE, MINUS, PLAIN_STORE, PLAIN_RAISE.
 */
#define K 3
#define W 2
#ifdef ONE
#define PLACES 1
#else
#define PLACES 2
#endif
#define NEVER 100
#define EARLY 1
#define LAST 6                      /* the clock goes so far */
#define WORD(t, p) (((t) / K + 1) * 8 + (p))
#define CYCLE(w) ((w) / 8)
#define END(w) ((CYCLE(w) - 1) * K + 1 + 1) /* of the slice's life that a word is of */

byte word[PLACES];
byte floor_ = 0;
byte most = 0;
byte clock_ = 0;
byte accepted[4];
byte under_way = 0;                 /* bursts */
byte life;                          /* NO_CYCLE: of the slice, beside the words */

/* One burst of one packet of time t, whose hash is p. */
proctype opener(byte t; byte p)
{
	byte i = 0, old;

	under_way++;
	if
	:: atomic { t < floor_ || t > floor_ + W -> goto left }      /* 2 */
	:: atomic { !(t < floor_ || t > floor_ + W) -> skip }
	fi;
#ifdef NO_CYCLE
	if
	:: atomic { life > t / K + 1 -> goto left }
	:: atomic { life < t / K + 1 -> life = t / K + 1 };
		word[0] = 0;
		word[PLACES - 1] = 0
	:: atomic { life == t / K + 1 -> skip }
	fi;
#endif
	do                                                            /* 4 */
	:: i == PLACES -> goto left                                   /* full */
	:: i < PLACES ->
		old = word[i];
		if
		:: old == WORD(t, p) -> goto left                     /* duplicate */
#ifdef NO_CYCLE
		:: old != WORD(t, p) && old != 0 -> old = 0; i++
		:: old == 0 ->
#else
		:: CYCLE(old) > t / K + 1 -> goto left                /* stale */
		:: CYCLE(old) == t / K + 1 && old != WORD(t, p) -> old = 0; i++
		:: CYCLE(old) < t / K + 1 ->
#endif
			atomic {
				if
				:: word[i] == old -> word[i] = WORD(t, p); old = 0; break
				:: else -> old = 0    /* the same word again */
				fi
			}
		fi
	od;
#ifndef NO_REREAD
	if
	:: atomic { t < floor_ -> goto left }                         /* 5 */
	:: atomic { t >= floor_ -> skip }
	fi;
#endif
	atomic {
		accepted[p]++;
		assert(accepted[p] == 1);
		if
		:: most < t -> most = t
		:: else
		fi
	}
left:
	atomic { i = 0; old = 0; under_way-- }
}

/* Time passes, and whoever begins a burst raises the floor (A = 0). */
proctype raises()
{
#ifdef RESET
	byte seen, to;
	do
	:: clock_ < LAST -> clock_++
	:: atomic { clock_ > floor_ -> seen = floor_; to = clock_ };
		atomic {
#ifndef PLAIN_RAISE
			if
			:: floor_ == seen -> floor_ = to
			:: else
			fi;
#else
			floor_ = to;
#endif
			seen = 0; to = 0
		}
	:: break
	od
#else
	do
	:: atomic { floor_ < LAST -> floor_++ }
	:: atomic { floor_ == LAST -> break }
	od
#endif
}

/* The sweep: words below the floor become 0. */
proctype sweeps()
{
	byte i = 0, old;
	do
	:: i == PLACES -> break
	:: i < PLACES ->
		if
		:: atomic { floor_ != NEVER && word[i] != 0 && END(word[i]) <= floor_ -> old = word[i] };
#ifdef PLAIN_STORE
			word[i] = 0
#else
			atomic {
				if
				:: word[i] == old -> word[i] = 0
				:: else
				fi
			}
#endif
		:: skip
		fi;
		atomic { old = 0; i++ }
	od
}

/* The clock was ahead, and is set back. Bursts that began before the floor was
 * NEVER are waited for; those that begin later find it so. */
proctype resets()
{
	floor_ = NEVER;
	under_way == 0;
	clock_ = 0;
	word[0] = 0;
	word[PLACES - 1] = 0;
	floor_ = most + 1
}

init {
	atomic {
#ifdef RESTART
		/* The receiver before stopped when its clock was 0: it may have accepted
		 * what is EARLY ahead, a packet of time 1. */
		accepted[1] = 1;
#ifdef MINUS
		floor_ = 0;
#else
		floor_ = EARLY + 1;
#endif
#endif
		run opener(1, 1);
		run opener(1, 1);
		run raises();
#ifdef RESET
		run resets()
#else
		run sweeps();
#ifdef ONE
		run opener(4, 2);
		run opener(4, 2)
#else
		run opener(1, 3)
#endif
#endif
	}
}
