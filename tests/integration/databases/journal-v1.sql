BEGIN TRANSACTION;
CREATE TABLE phimill_log (
	build VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	at VARCHAR(40) NOT NULL, 
	level VARCHAR(16) NOT NULL, 
	stage VARCHAR(64) NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (build, number)
);
INSERT INTO "phimill_log" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',1,'2026-11-28T22:16:39.242+00:00','info','fetch','begun');
INSERT INTO "phimill_log" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',2,'2026-11-28T22:16:39.245+00:00','info','fetch','ended');
INSERT INTO "phimill_log" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',3,'2026-11-28T22:16:39.283+00:00','info','convert','begun');
INSERT INTO "phimill_log" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',4,'2026-11-28T22:16:39.284+00:00','info','convert','ended');
INSERT INTO "phimill_log" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',5,'2026-11-28T22:16:39.316+00:00','info','prove','begun');
INSERT INTO "phimill_log" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',6,'2026-11-28T22:16:39.316+00:00','info','prove','ended');
INSERT INTO "phimill_log" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',7,'2026-11-28T22:16:39.368+00:00','info','publish','begun');
INSERT INTO "phimill_log" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',8,'2026-11-28T22:16:39.389+00:00','info','publish','ended');
INSERT INTO "phimill_log" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1',1,'2026-11-28T22:16:39.716+00:00','info','fetch','begun');
INSERT INTO "phimill_log" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1',2,'2026-11-28T22:16:39.717+00:00','info','fetch','ended');
INSERT INTO "phimill_log" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1',3,'2026-11-28T22:16:39.743+00:00','info','convert','begun');
INSERT INTO "phimill_log" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1',4,'2026-11-28T22:16:39.744+00:00','info','convert','ended');
INSERT INTO "phimill_log" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1',5,'2026-11-28T22:16:39.765+00:00','info','prove','begun');
CREATE TABLE phimill_notes (
	name VARCHAR(200) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "phimill_notes" VALUES('seen:microsoft/Phi-1:gguf:phimill','a note');
CREATE TABLE phimill_parked (
	build VARCHAR(64) NOT NULL, 
	awaits VARCHAR(16) NOT NULL, 
	PRIMARY KEY (build)
);
CREATE TABLE phimill_progress (
	build VARCHAR(64) NOT NULL, 
	progress TEXT NOT NULL, 
	PRIMARY KEY (build)
);
INSERT INTO "phimill_progress" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1','{"stage":"prove","recipe":null,"done":1.0,"total":4.0,"unit":"","eta":null,"memory":null}');
CREATE TABLE phimill_tries (
	build VARCHAR(64) NOT NULL, 
	step VARCHAR(96) NOT NULL, 
	tries INTEGER NOT NULL, 
	PRIMARY KEY (build, step)
);
INSERT INTO "phimill_tries" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1','prove',1);
COMMIT;
