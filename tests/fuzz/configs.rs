//! Mutants of a config, each made, started, looked at and deleted.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::base::{HOOKS, MARKS};
use crate::mutate::{self, Change, Mutation};
use crate::oracle;
use crate::subject::{Answer, Field, Subject};
use crate::table::Table;

pub struct Configs(Field);

impl Configs {
    pub fn new(beside: Option<&Path>) -> Self {
        Self(Field::new(["a", "b"], beside))
    }

    pub fn mutations(&self) -> Vec<Mutation> {
        mutate::all(&self.for_subject(&self.0.subject))
    }

    fn for_subject(&self, subject: &Subject) -> Value {
        let mut config = self.0.bundle.config.clone();
        config["linux"]["cgroupsPath"] = format!("/{}", subject.id).into();
        config
    }

    /// The faults of the config as it is: there must be none.
    pub fn unchanged(&self) -> Answer {
        self.ask(
            &self.0.subject,
            &Mutation { at: "/annotations/org.example.a".to_owned(), change: Change::Front("") },
        )
    }

    pub fn try_one(&self, mutation: &Mutation, table: &mut Table) {
        let answer = self.ask(&self.0.subject, mutation);
        let beside = self.0.beside.as_ref().map(|beside| self.ask(beside, mutation));
        table.add(&mutation.to_string(), &answer, beside.as_ref());
    }

    fn ask(&self, subject: &Subject, mutation: &Mutation) -> Answer {
        let config = self.for_subject(subject);
        let mutant = mutation.apply(&config);
        let bundle = &self.0.bundle.path;
        fs::write(bundle.join("config.json"), mutate::text(&mutant)).expect("config.json");
        for marks in [bundle.join(MARKS), self.0.bundle.rootfs(MARKS)] {
            let _ = fs::remove_file(marks);
        }
        let pid_file = subject.folder.join("pid");
        let _ = fs::remove_file(&pid_file);
        let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let line =
            ["run", "--detach", "--bundle", &path(bundle), "--pid-file", &path(&pid_file), &subject.id]
                .map(String::from);
        let mut answer = Answer::default();
        answer.take("run", subject.call(&self.0.sandbox, &line));
        if answer.taken {
            self.look(&mutant, mutation, &config, &pid_file, &mut answer);
        }
        let stopped = subject.delete(&self.0.sandbox);
        answer.faults.extend(stopped);
        if answer.taken {
            answer.weaker(oracle::hooks_not_run(&mutant, bundle, &["poststop"]));
        }
        answer
    }

    fn look(
        &self,
        mutant: &Value,
        mutation: &Mutation,
        config: &Value,
        pid_file: &Path,
        answer: &mut Answer,
    ) {
        if mutation.is_of_another_type(config) {
            answer.weaker(vec!["a value of another type was taken".to_owned()]);
        }
        if matches!(mutation.change, Change::Twice(_)) {
            answer.weaker(vec!["a key given twice was taken".to_owned()]);
        }
        let pid = fs::read_to_string(pid_file).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid {
            answer.weaker(oracle::missing(mutant, &self.0.bundle.rootfs(""), pid));
        }
        let before = HOOKS.iter().copied().filter(|stage| *stage != "poststop").collect::<Vec<_>>();
        answer.weaker(oracle::hooks_not_run(mutant, &self.0.bundle.path, &before));
    }
}
