/* The rotation of one ring, for spin: members, servers, and a store with one
 * head. The environment gives budgets (how often what may happen) and, to show
 * that the properties can fail, a mutant; model_test.go lists them.
 *
 * A committed step has a number, idx, that names it for ever: what a member has
 * is the idx whose record it installed and the one it cached. What members and
 * servers compare is (term, step), vt[idx] and vs[idx]; after a restore steps
 * begin again in a higher term.
 *
 * Time is in two places: a packet is in flight until it arrives or is lost, and
 * a server's path delay ends only when no packet is in flight that was sent
 * before. Crashes are seen at once: a member that is down is not ready. */
#ifndef N
#define N 3
#endif
#define S 2
#define IDX 24

#define STEADY 1
#define PREPARED 2
#define ACTIVE 3
#define bit(g) (1 << (g))

byte st = STEADY, cur = 1, old, nxt, last = 1;
byte idx = 1;			/* of the newest step */
byte vt[IDX], vs[IDX];		/* its term and step */
byte opens[IDX], seals[IDX];	/* what its record says: set of generations, generation */

bool inB[N], up[N], revoked[N];
byte cached[N], inst[N];	/* idx; 0: nothing */
byte pkt[N];			/* generation of the packet in flight from here; 0: none */
byte rdy[S * N];		/* idx that a member acknowledged to a server in its session */
bool sup[S], waited[S];		/* server is up; it waited path_delay in this step */

byte rotations, aborts, revokes, restores;	/* budgets: the operator's */
byte crashes, lost, setback, excludes;		/* members: crashes; with the cache gone; with an older cache; exclusions */
byte scrashes;					/* servers' crashes */
bool live;					/* no packets: does every rotation end? */

byte mutant;
#define M_NO_ACTIVATE_BARRIER (mutant == 1)
#define M_ACK_ON_FETCH (mutant == 2)
#define M_INSTALL_FIRST (mutant == 3)
#define M_QUIET (mutant == 4)
#define M_NO_DELAY (mutant == 5)
#define M_COUNTS (mutant == 6)
#define M_NO_COMPARE (mutant == 7)
#define M_STANDING (mutant == 8)
#define M_REUSE (mutant == 9)
#define M_NO_TERM (mutant == 10)
#define M_OLD_SESSION (mutant == 11)
#define M_OLD_DELAY (mutant == 12)
c_code {
	static unsigned char setting(const char *name) { const char *s = getenv(name); return s ? atoi(s) : 0; }
};

bool again, cutting, cut;	/* revocation: to prepare; its rotation runs; its ACTIVE barrier was passed */
byte held;			/* generations that the revoked member has */
byte given;			/* generations that were ever given a value */

/* M_NO_COMPARE: a server that writes what it made of an older head. */
byte snapidx, snapnxt;

/* Is what a names as new as what b names? */
#define asnew(a, b) ((a) != 0 && ((!M_NO_TERM && vt[a] > vt[b]) || ((M_NO_TERM || vt[a] == vt[b]) && vs[a] >= vs[b])))

#define ready(m) (asnew(rdy[m], idx) || asnew(rdy[N + (m)], idx))
#define covered(m) (!inB[m] || ready(m))
#if N == 3
#define each(f) (f(0) && f(1) && f(2))
#define count(x) ((x[0] -> 1 : 0) + (x[1] -> 1 : 0) + (x[2] -> 1 : 0))
#define cnt(v) ((asnew(rdy[(v) * N], idx) -> 1 : 0) + (asnew(rdy[(v) * N + 1], idx) -> 1 : 0) + (asnew(rdy[(v) * N + 2], idx) -> 1 : 0))
#else
#define each(f) (f(0) && f(1))
#define count(x) ((x[0] -> 1 : 0) + (x[1] -> 1 : 0))
#define cnt(v) ((asnew(rdy[(v) * N], idx) -> 1 : 0) + (asnew(rdy[(v) * N + 1], idx) -> 1 : 0))
#endif
#define allready (M_COUNTS -> cnt(0) + cnt(1) >= count(inB) : each(covered))
#define nopacket(m) (pkt[m] == 0 || pkt[m] != old)
#define quiet each(nopacket)
/* Has everybody what is newest? */
#define newest(m) (!inB[m] || !up[m] || inst[m] == idx)

inline commit(state) {
	st = state;
	idx++;
	assert(idx < IDX);
	vt[idx] = vt[idx - 1];
	vs[idx] = vs[idx - 1] + 1;
	opens[idx] = bit(cur) | (old -> bit(old) : 0) | (nxt -> bit(nxt) : 0);
	seals[idx] = cur;
	waited[0] = false;
	waited[1] = false;
}

inline draw() {
	nxt = (M_REUSE -> cur + 1 : last + 1);
	last = (nxt > last -> nxt : last);
	assert(!(given & bit(nxt)));	/* I3: one value for a generation, for ever */
	given = given | bit(nxt);
}

/* A session has ended: what it acknowledged does not count, and who waited for
 * packets of others waits anew, for its next session may seal with less. */
inline unready(m) {
	if
	:: !M_OLD_SESSION -> rdy[m] = 0; rdy[N + m] = 0
	:: else
	fi;
	if
	:: !M_OLD_DELAY -> waited[0] = false; waited[1] = false
	:: else
	fi
}

inline activate(g) {
	old = cur; cur = g; nxt = 0;
	commit(ACTIVE)
}

/* I7, for one member. */
#define clean(k) (!inB[k] || !up[k] || inst[k] == 0 || !(bit(seals[inst[k]]) & held))
#define wiped(k) (!inB[k] || !up[k] || inst[k] == 0 || !(opens[inst[k]] & held))

/* I1: a packet of a member arrives at another that is up. */
inline arrive(from, to) {
	if
	:: inB[from] && inB[to] && up[to] && inst[to] != 0 -> assert(opens[inst[to]] & bit(pkt[from]))
	:: else
	fi
}

/* The operator, time, and what is done to the roster. */
proctype operator() {
	do
	:: atomic { rotations > 0 && st == STEADY && !again && !M_STANDING -> rotations--; draw(); commit(PREPARED) }
	:: atomic { rotations > 0 && st == STEADY && M_STANDING -> rotations--; activate(nxt) }
	:: atomic { aborts > 0 && st == PREPARED && !cutting -> aborts--; nxt = 0; commit(STEADY) }
	:: atomic { restores > 0 && st == STEADY && !again -> restores--; commit(STEADY); vt[idx] = vt[idx] + 1; vs[idx] = 1 }
	:: atomic { revokes > 0 && inB[0] && count(inB) > 1 ->
		revokes--; inB[0] = false; revoked[0] = true; pkt[0] = 0;
		held = bit(cur) | (old -> bit(old) : 0) | (nxt -> bit(nxt) : 0);
		again = true; cut = false;
		commit(st) }
	od
}

/* What any server does when it is due: the head's revision decides which. */
proctype server(byte v) {
	do
	:: atomic { sup[v] && again && st == PREPARED -> nxt = 0; commit(STEADY) }
	:: atomic { sup[v] && again && st == STEADY && !M_STANDING -> again = false; cutting = true; draw(); commit(PREPARED) }
	:: atomic { sup[v] && again && st == STEADY && M_STANDING -> again = false; cutting = true; activate(nxt) }
	:: atomic { sup[v] && st == PREPARED && !again && (allready || M_NO_ACTIVATE_BARRIER) -> activate(nxt) }
	:: atomic { M_NO_COMPARE && sup[v] && snapidx == 0 && st == PREPARED && allready -> snapidx = idx; snapnxt = nxt }
	:: atomic { M_NO_COMPARE && sup[v] && snapidx != 0 && st != ACTIVE -> snapidx = 0; activate(snapnxt) }
	:: atomic { sup[v] && st == ACTIVE && !waited[v] && allready && quiet -> waited[v] = true }
	:: atomic { sup[v] && st == ACTIVE && (M_QUIET -> quiet : allready && (waited[v] || M_NO_DELAY)) ->
		if
		:: cutting -> cut = true; cutting = false; assert(each(clean))
		:: else
		fi;
		old = 0;
		if
		:: M_STANDING -> draw()
		:: else
		fi;
		commit(STEADY) }
	:: atomic { sup[v] && cut && st == STEADY && !again && allready -> cut = false; assert(each(wiped)); held = 0 }
	:: atomic { sup[v] && scrashes > 0 -> scrashes--; sup[v] = false; waited[v] = false;
		rdy[v * N] = 0; rdy[v * N + 1] = 0;
#if N == 3
		rdy[v * N + 2] = 0
#endif
		}
	:: atomic { !sup[v] -> sup[v] = true }
	od
}

#define anyserver (sup[0] || sup[1])
#define may_ack(v) (sup[v] && !revoked[m] && (M_ACK_ON_FETCH -> rdy[(v) * N + m] != idx : inst[m] != 0 && (M_INSTALL_FIRST || inst[m] == cached[m]) && rdy[(v) * N + m] != inst[m]))
#define acked (M_ACK_ON_FETCH -> idx : inst[m])
proctype member(byte m) {
	do
	/* Fetch and cache; install; acknowledge. */
	:: atomic { up[m] && !revoked[m] && !M_INSTALL_FIRST && !asnew(cached[m], idx) && anyserver -> cached[m] = idx }
	/* A record that was long on its way. */
	:: atomic { up[m] && !revoked[m] && !M_INSTALL_FIRST && cached[m] != 0 && cached[m] + 1 < idx && !asnew(cached[m], cached[m] + 1) -> cached[m]++ }
	:: atomic { up[m] && !M_INSTALL_FIRST && cached[m] != inst[m] -> inst[m] = cached[m] }
	:: atomic { up[m] && !revoked[m] && M_INSTALL_FIRST && !asnew(inst[m], idx) && anyserver -> inst[m] = idx }
	:: atomic { up[m] && M_INSTALL_FIRST && cached[m] != inst[m] -> cached[m] = inst[m] }
	:: atomic { up[m] && may_ack(0) -> rdy[m] = acked }
	:: atomic { up[m] && may_ack(1) -> rdy[N + m] = acked }
	:: atomic { crashes > 0 && up[m] -> crashes--; up[m] = false; inst[m] = 0; unready(m) }
	:: atomic { lost > 0 && up[m] -> lost--; up[m] = false; inst[m] = 0; cached[m] = 0; unready(m) }
	/* Only to a state whose keys are not retired yet: an older one loses packets. */
	:: atomic { setback > 0 && up[m] && cached[m] > 1 && (bit(seals[cached[m] - 1]) & opens[idx]) && (opens[cached[m] - 1] & bit(seals[idx])) ->
		setback--; up[m] = false; inst[m] = 0; cached[m]--; unready(m) }
	:: atomic { !up[m] -> up[m] = true; inst[m] = cached[m] }
	:: atomic { excludes > 0 && inB[m] && !ready(m) && count(inB) > 1 && anyserver -> excludes--; inB[m] = false; pkt[m] = 0 }
	:: atomic { !inB[m] && !revoked[m] && up[m] && ready(m) && inst[m] == idx && anyserver -> inB[m] = true; pkt[m] = 0; waited[0] = false; waited[1] = false }
	/* Packets. */
	:: atomic { !live && up[m] && inB[m] && inst[m] != 0 && pkt[m] == 0 -> pkt[m] = seals[inst[m]] }
	:: atomic { pkt[m] != 0 -> arrive(m, 0); arrive(m, 1);
#if N == 3
		arrive(m, 2);
#endif
		pkt[m] = 0 }
	od
}

init {
	byte m;
	atomic {
		c_code {
			now.rotations = setting("ROTATIONS"); now.aborts = setting("ABORTS"); now.revokes = setting("REVOKES"); now.restores = setting("RESTORES");
			now.crashes = setting("CRASHES"); now.lost = setting("LOST"); now.setback = setting("SETBACK"); now.excludes = setting("EXCLUDES");
			now.scrashes = setting("SCRASHES"); now.live = setting("LIVE"); now.mutant = setting("MUTANT");
		};
		vt[1] = 1; vs[1] = 1; opens[1] = bit(1); seals[1] = 1; given = bit(1);
		do
		:: m < N -> inB[m] = true; up[m] = true; cached[m] = 1; inst[m] = 1; m++
		:: else -> break
		od;
		m = 0;
		sup[0] = true; sup[1] = true;
		if
		:: M_STANDING -> draw(); commit(STEADY)
		:: else
		fi;
		run operator();
		run server(0); run server(1);
		run member(0); run member(1);
#if N == 3
		run member(2);
#endif
	}
	/* Nothing can happen any more: every rotation has ended, and all know. */
	do
	:: live && timeout -> assert(st == STEADY && !again && rotations == 0 && revokes == 0 && each(newest)); break
	od
}
